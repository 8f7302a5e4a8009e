# SPDX-License-Identifier: MIT
# Teacher forcing: opencl and cpu compute the logits of the same tokens, of the bundled model and of a tiny random model of each
# architecture.  Each row's root mean square difference is measured; the best token must be the same wherever the best two
# of the cpu's differ by more than four times it.  The relative squared error of a row stays below 1e-8 as well against the
# cpu's reference, which declares f32 as opencl does (measured 4e-11), and that of all rows below 5e-2 against the fast levels,
# whose integer activations are another class: single rows of random models differ by more, where a near tie chooses another
# expert, and one best token in fifty may be another there.
# With PERI_LONG more types, lengths and seeds.
. "$(dirname "$0")/harness.sh"
need_demo
[ -f "$BINARY_DIR/$LIBDIR/perigee/0/plugins/opencl.so" ] || { echo "skipped: built without CL/cl.h"; exit 77; }
[ -z "${SANITIZE:-}" ] || { echo "skipped: no other code than in opencl.sh, and slow"; exit 77; }
export POCL_CACHE_DIR=$tmp/pocl
"$PERIGEE" devices --json >"$tmp/out" 2>/dev/null
grep -q '"plugin": "opencl"' "$tmp/out" || { echo "skipped: no OpenCL device (Debian: pocl-opencl-icd)"; exit 77; }

# forced NAME MODEL TOKENS: one line of figures; a failure where they are not as promised
forced() {
    local isa
    run logits -q -m "$2" --tokens "$3" -o "$tmp/opencl.bin" --device opencl
    for isa in reference ""; do
        if [ -n "$isa" ]; then export PERIGEE_CPU_ISA=$isa; else unset PERIGEE_CPU_ISA; fi
        run logits -q -m "$2" --tokens "$3" -o "$tmp/cpu.bin" --device cpu
        unset PERIGEE_CPU_ISA
        n_check=$((n_check + 1))
        python3 - "$tmp/opencl.bin" "$tmp/cpu.bin" "$3" "$1, cpu ${isa:-as it is}" "${isa:-fast}" <<'PYTHON' || fail "$1: forced tokens"
import array, math, sys
ours, theirs, tokens, name, level = sys.argv[1:]
a, b = (array.array("f", open(p, "rb").read()) for p in (ours, theirs))
n = tokens.count(",") + 1
width = len(b) // n
assert len(a) == len(b) == n * width > 0, (len(a), len(b), n)
clear = wrong = 0
worst = all_square = all_size = 0.0
for t in range(n):
    x, y = a[t * width:(t + 1) * width], b[t * width:(t + 1) * width]
    square = sum((p - q) ** 2 for p, q in zip(x, y))
    rms = math.sqrt(square / width)
    best = max(range(width), key=y.__getitem__)
    gap = y[best] - max(v for i, v in enumerate(y) if i != best)
    size = sum(q * q for q in y)
    error = square / size if square else 0
    all_square += square
    all_size += size
    worst = error if not error <= worst else worst      # a NaN is the worst of all
    if gap > 4 * rms:
        clear += 1
        if max(range(width), key=x.__getitem__) != best:
            wrong += 1
            print(f"{name}: row {t}: best token of the cpu {best}, of opencl {x.index(max(x))}; gap {gap}, RMS {rms}")
print(f"{name}: {n} rows, {clear} with a clear best token, {wrong} of them wrong, worst row {worst:.2e}")
# Errors of two logits are independent: one row in some hundred of another class may turn by more than four times their size.
strict = level == "reference" or name.startswith("bundled")
assert wrong <= (0 if strict else clear // 50), (wrong, clear, n)
assert not strict or n < 20 or 2 * clear > n, (clear, n)
assert (worst <= 1e-8) if level == "reference" else (all_square <= 5e-2 * all_size), (worst, all_square / all_size)
PYTHON
    done
}

# tokens N SEED: N random ids below 300, the vocabulary of the tiny models
tokens() { python3 -c 'import random, sys; r = random.Random(sys.argv[2]); print(",".join(str(r.randrange(300)) for _ in range(int(sys.argv[1]))))' "$@"; }

# What the bundled model says by itself, then forced on both.
run run "$demo" --raw -n 60 --temp 0 --device cpu "The quick brown fox"
said=$(printf 'The quick brown fox%s' "$out" | "$PERIGEE" tokenize -m "$demo" 2>/dev/null | tr ' ' ',')
has "$said" ,
forced "bundled model" "$demo" "$said"

types=Q8_0 lengths=40 seeds=1
if [ -n "${PERI_LONG:-}" ]; then
    types="F32 F16 BF16 Q8_0 Q4_0 Q5_1 Q4_K Q6_K IQ4_XS"
    lengths="5 120"
    seeds="1 ${PERI_SEED:-2}"
fi
for file in "$SOURCE_DIR"/tests/golden/arch/*.txt; do
    arch=$(basename "$file" .txt)
    for type in $types; do
        for seed in $seeds; do
            n_check=$((n_check + 1))
            "$BINARY_DIR/tests/tiny_model" "$arch" "$type" "$seed" "$tmp/tiny.gguf" || fail "tiny_model $arch $type"
            for length in $lengths; do
                forced "$arch $type seed $seed" "$tmp/tiny.gguf" "$(tokens "$length" "$seed $arch $type $length")"
            done
        done
    done
done
finish
