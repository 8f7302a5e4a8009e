# SPDX-License-Identifier: MIT
# Teacher forcing: opencl and cpu compute the logits of the same tokens, of the bundled model and of a tiny random model of each
# architecture.  Each row's root mean square difference is measured; the best token must be the same wherever the best two
# of the cpu's differ by more than four times it, and the relative squared error of all rows below 1e-4
# (measured 2e-14 to 2e-5).  What computes with
# activations of the same kind is compared: the kernels for processors (integers, as the cpu's fast levels have them) with the
# cpu as it is, those for graphics cards (f32) with its reference.  A sum in another order may round one activation to its
# neighbour, which costs the rows that depend on it 1e-4 or less; in f32 nothing is rounded so, and no row may differ by 1e-8
# (measured 5e-13).  BF16 weights, in the long form only, are the exception: the cpu rounds their activations to bf16, opencl does
# not (act=bf16 and act=f32, as each declares); measured 2e-5 to 3e-5 on the bundled model and on five
# architectures.
# With PERI_LONG more types, lengths and seeds.
. "$(dirname "$0")/harness.sh"
need_demo
[ -f "$BINARY_DIR/$LIBDIR/perigee/0/plugins/opencl.so" ] || { echo "skipped: built without CL/cl.h"; exit 77; }
[ -z "${SANITIZE:-}" ] || { echo "skipped: no other code than in opencl.sh, and slow"; exit 77; }
export POCL_CACHE_DIR=${POCL_CACHE_DIR:-$tmp/pocl}
"$PERIGEE" devices --json >"$tmp/out" 2>/dev/null
grep -q '"plugin": "opencl"' "$tmp/out" || { echo "skipped: no OpenCL device (Debian: pocl-opencl-icd)"; exit 77; }

# forced NAME MODEL TOKENS: a line of figures for each shape of kernels; a failure where they are not as promised
forced() {
    local shape
    for shape in vector local; do
        run logits -q -m "$2" --tokens "$3" -o "$tmp/opencl.bin" --device opencl --set "opencl.shape=$shape"
        if [ "$shape" = local ]; then export PERIGEE_CPU_ISA=reference; fi
        run logits -q -m "$2" --tokens "$3" -o "$tmp/cpu.bin" --device cpu
        unset PERIGEE_CPU_ISA
        n_check=$((n_check + 1))
        python3 - "$tmp/opencl.bin" "$tmp/cpu.bin" "$3" "$1, shape $shape" "$shape" <<'PYTHON' || fail "$1: forced tokens"
import array, math, sys
ours, theirs, tokens, name, shape = sys.argv[1:]
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
print(f"{name}: {n} rows, {clear} with a clear best token, {wrong} of them wrong, worst row {worst:.2e}, all {all_square / all_size:.2e}")
assert wrong == 0, (wrong, clear, n)
assert n < 20 or 2 * clear > n, (clear, n)
assert worst <= 1e-8 if shape == "local" else all_square <= 1e-4 * all_size, (worst, all_square / all_size)
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
