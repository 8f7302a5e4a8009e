# SPDX-License-Identifier: MIT
# The CUDA plugin without a device: its kernels compiled for the processor in a stand-in for the driver (tests/plugin/cuda).
# The tokens and logits of the CPU; what is said when there is no driver, an old, broken, crashing or hanging one, no device
# that fits, too little memory, and when the device is lost; and that work goes on elsewhere.
. "$(dirname "$0")/harness.sh"
need_demo
built=$BINARY_DIR/tests/plugin/cuda
[ -f "$built/driver/libcuda.so.1" ] || { echo "skipped: built without a C++ compiler (Debian: g++)"; exit 77; }
case $SANITIZE in thread) echo "skipped: fibers are not for the thread sanitizer"; exit 77 ;; esac
standin=$built/driver
mkdir "$tmp/plugins" "$tmp/text" "$tmp/old"
cp "$BINARY_DIR/$LIBDIR/perigee/0/plugins/cpu.so" "$built/cuda.so" "$tmp/plugins"

# with FAKE RUN_ARGUMENT...: run with the stand-in spoilt in that way (see libcuda.cc), from what was never examined before, and as fast
# as it says it is
with() {
    local fake=$1
    shift
    rm -rf "$XDG_CACHE_HOME"
    FAKE_CUDA=$fake LD_LIBRARY_PATH=$standin PERIGEE_PLUGIN_PATH=$tmp/plugins PERIGEE_PLACE_FIGURES=declared run "$@"
}
ask=("$demo" --raw -n 24 --temp 0 "The quick brown")
few=("$demo" --raw -n 8 --temp 0 "The quick brown") # where what differs shows in the first steps

# ---- the plugin as it is built: one line says what it lacks here ----
run devices --json
python3 - "$tmp/out" <<'PYTHON' || fail "devices does not say why cuda is not usable, or that it is"
import json, sys
plugins = [p for p in json.load(open(sys.argv[1]))["plugins"] if p["name"] == "cuda"]
assert len(plugins) == 1, plugins
p = plugins[0]
assert p["state"] == "usable" or any(t in p["reason"] for t in ("built without its kernels", "libcuda.so.1")), p
PYTHON
run run "${ask[@]}" --device cpu
cpu=$out
run run "${few[@]}" --device cpu
cpu_few=$out

# ---- no driver, one too old, a broken one: said in one line by devices, and by who asks for it; else work goes on ----
export PERIGEE_PLUGIN_PATH=$tmp/plugins
echo "no shared object" >"$tmp/text/libcuda.so.1"
LD_LIBRARY_PATH=$tmp/text run devices
has "$out" "libcuda.so.1: file too short"
LD_LIBRARY_PATH=$tmp/text run 1 run "${ask[@]}" --device cuda
has "$err" "libcuda.so.1"
LD_LIBRARY_PATH=$tmp/text run run "${ask[@]}"
is "$out" "$cpu"
rm -rf "$XDG_CACHE_HOME"
cp "$built/cuda.so" "$tmp/old/libcuda.so.1" # any library without the driver's functions
LD_LIBRARY_PATH=$tmp/old run devices
has "$out" "libcuda.so.1 is older than CUDA 11.3: it has no cuGetProcAddress"
while read -r fake text; do
    with "$fake" devices
    has "$out" "$text"
    with "$fake" 1 run "${ask[@]}" --device cuda
    has "$err" "$text"
done <<'CASES'
missing=cuMemAlloc libcuda.so.1 has no function cuMemAlloc of CUDA 11.4 (500)
init=100 libcuda.so.1 is there, but cuInit: CUDA_ERROR_NO_DEVICE (100)
init=803 libcuda.so.1 is there, but cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)
devices=0 the driver lists no device
cc=75 Stand-in 0 has compute capability 7.5, the kernels need 8.0 or later
crash crashed in device(0) (SIGABRT)
hang hung in device(0)
CASES
with init=803 run "${ask[@]}"
is "$out" "$cpu"
with crash run "${ask[@]}"
is "$out" "$cpu"

# ---- two devices, told apart ----
with devices=2 devices --json
python3 - "$tmp/out" <<'PYTHON' || fail "devices of two"
import json, sys
found = [(d["name"], d["location"], d["isa"], d["mem_gbps"]) for d in json.load(open(sys.argv[1]))["devices"] if d["plugin"] == "cuda"]
assert found == [("cuda:0", "pci:0000:3b:00.0", "sm_90", 2048), ("cuda:1", "pci:0000:3c:00.0", "sm_90", 2048)], found
PYTHON

# ---- the same tokens; it is chosen by itself, being the faster one ----
with "" run "${ask[@]}" --verbose
is "$out" "$cpu"
has "$err" "plugin cuda:0"

# ---- whole steps as graphs: the first step of a shape runs op by op, then one graph for all; the same tokens without ----
with count run "${ask[@]}" --device cuda:0
is "$out" "$cpu"
has "$err" "1 graphs made, 23 launched"
has "$err" " reads into pinned memory, 0 into other" # lists of the likeliest, one a step
n_read=$(sed -n 's/.* \([0-9]*\) reads into pinned memory.*/\1/p' "$tmp/err")
[ "$n_read" -ge 24 ] || fail "$n_read reads of 24 steps"
with count run "${few[@]}" --device cuda:0 --set cuda.graphs=0
is "$out" "$cpu_few"
has "$err" "0 graphs made, 0 launched"
for fake in capture=901 instantiate=999; do
    with $fake,count run "${few[@]}" --device cuda:0
    is "$out" "$cpu_few"
    has "$err" "0 graphs made, 0 launched"
    is "$(grep -c 'no graphs of whole steps, operations are launched one by one: cu.*(9[0-9]*)' "$tmp/err")" 1
done
with "" 1 run "${few[@]}" --device cuda:0 --set cuda.graphs=yes
has "$err" "option cuda.graphs: found 'yes', expected 0 or 1"
with "" 1 run "${few[@]}" --device cuda:0 --set cuda.act=q4
has "$err" "option cuda.act: found 'q4', expected f32 or q8"
with "" 1 run "${few[@]}" --device cuda:0 --set cuda.tile=16
has "$err" "option cuda.tile: found '16', expected 8 or 32"

# ---- kernels that begin before the one before has ended: as far as they may, or not at all ----
for on in 1 0; do
    with count run "${few[@]}" --device cuda:0 --set cuda.pdl=$on
    is "$out" "$cpu_few"
    n_early=$(sed -n 's/.* \([0-9]*\) began early$/\1/p' "$tmp/err")
    [ "$((n_early > 0))" = $on ] || fail "cuda.pdl=$on: $n_early kernels began early"
done
with count run "${few[@]}" --device cuda:0
[ "$(sed -n 's/.* \([0-9]*\) began early$/\1/p' "$tmp/err")" -gt 0 ] || fail "no kernel began early of itself"
for fake in cc=86 cc=100 missing=cuLaunchKernelEx; do
    with $fake,count run "${few[@]}" --device cuda:0 --set cuda.pdl=1
    is "$out" "$cpu_few"
    has "$err" ", 0 began early"
    has "$err" "cuda.pdl needs compute capability 9.0 or 12 and CUDA 12.3"
done
# ---- logits along a text, within what f32 sums in another order may differ by, and the same best token everywhere ----
text="Perigee is a local inference runtime. What is the weather in Oslo? I cannot do that; ask me for a file or the time."
ids=$(printf %s "$text" | "$PERIGEE" tokenize -m "$demo" | tr ' ' ',')
with "" logits -m "$demo" --tokens "$ids" -o "$tmp/cuda.bin" --device cuda:0
with "" logits -m "$demo" --tokens "$ids,$ids" -o "$tmp/single.bin" --device cuda:0 --set cuda.graphs=0
with count logits -m "$demo" --tokens "$ids,$ids" -o "$tmp/graphs.bin" --device cuda:0 --chunk 5 --batch 2
has "$err" " 2 graphs made" # for one and for two blocks of keys
cmp -s "$tmp/graphs.bin" "$tmp/single.bin" || fail "logits differ between graphs and single launches"
# ---- ops that are one launch give the bits of those that are not: heads with norms and without, gate and up of experts ----
toy=$tmp/toy.gguf
python3 "$SOURCE_DIR/tests/perf/cuda_shapes.py" toy-experts "$toy" >"$tmp/size"
for model in "$demo" "$toy"; do
    for chunk in 1 7 40; do
        n_tok=$((chunk < 14 ? 14 : chunk)) # single tokens, equal pieces, one of many
        for on in 0 1; do
            with count logits -m "$model" --tokens "$(seq -s, 1 $n_tok)" -o "$tmp/together$on.bin" --device cuda:0 --chunk $chunk --set cuda.together=$on
            n_alone[$on]=$(sed -n 's/.* \([0-9]*\) kernels alone.*/\1/p' "$tmp/err")
        done
        cmp -s "$tmp/together0.bin" "$tmp/together1.bin" || fail "$model, chunks of $chunk: other logits with cuda.together=0"
        [ "${n_alone[1]}" -lt "${n_alone[0]}" ] || fail "$model, chunks of $chunk: nothing was launched together: ${n_alone[*]}"
    done
    for tile in 8 32; do # tokens of products; the last run was with what is reckoned to take less
        with kernels logits -m "$model" --tokens "$(seq -s, 1 40)" -o "$tmp/tile.bin" --device cuda:0 --chunk 40 --set cuda.tile=$tile
        n_few=$(grep -c 'launches of peri_few_' "$tmp/err") n_many=$(grep -c 'launches of peri_many_' "$tmp/err")
        [ "$((n_few > 0)) $((n_many > 0))" = "$((tile == 8)) $((tile == 32))" ] || fail "$model, cuda.tile=$tile: $n_few kernels of few tokens, $n_many of many"
        cmp -s "$tmp/tile.bin" "$tmp/together1.bin" || fail "$model: other logits with cuda.tile=$tile"
    done
done
# Q, K and V of one token are one launch where V alone has another type
with kernels logits -m "$toy" --tokens 1,2 -o "$tmp/mixed.bin" --device cuda:0 --chunk 1
has "$err" "launches of peri_mixed_12"
# attention of few tokens leaves its output as bytes, of keys in several parts too, and dot products of few pairs make theirs: no launch for bytes,
# where many tokens take two a layer; the same bits
for chunk in 6 302; do
    with kernels logits -m "$toy" --tokens "$(seq -s, 1 299),1,2,3" -o "$tmp/bytes$chunk.bin" --device cuda:0 --chunk $chunk
    n_attn=$(sed -n 's/^stand-in libcuda: \([0-9]*\) launches of peri_attn_.*/\1/p' "$tmp/err")
    n_quantise=$(sed -n 's/^stand-in libcuda: \([0-9]*\) launches of peri_quantise$/\1/p' "$tmp/err")
    is "${n_quantise:-0}" "$((chunk == 6 ? 0 : 2 * n_attn))"
done
cmp -s "$tmp/bytes6.bin" "$tmp/bytes302.bin" || fail "other logits where attention leaves its output as bytes"
with mutant logits -m "$demo" --tokens "$ids,$ids" -o "$tmp/early.bin" --device cuda:0 --chunk 5 # a kernel that reads too early is seen
cmp -s "$tmp/early.bin" "$tmp/single.bin" && fail "a kernel that reads what is not there yet changed nothing"
with mutant logits -m "$demo" --tokens "$ids,$ids" -o "$tmp/early.bin" --device cuda:0 --chunk 5 --set cuda.pdl=0
cmp -s "$tmp/early.bin" "$tmp/single.bin" || fail "the same kernel is wrong where it cannot begin early"
cat >"$tmp/near.py" <<'PYTHON'
# near.py A B IDS ERROR MISSES [MEDIAN]: rows at most so far apart, the median row too, and so many of another best token
import array, statistics, sys
a, b = (array.array("f", open(p, "rb").read()) for p in sys.argv[1:3])
n_tok, most, misses = len(sys.argv[3].split(",")), float(sys.argv[4]), int(sys.argv[5])
assert n_tok > 30 and len(a) == len(b) > 0 and len(a) % n_tok == 0, (n_tok, len(a), len(b))
n, errors = len(a) // n_tok, []
for t in range(n_tok):
    x, y = a[t * n:(t + 1) * n], b[t * n:(t + 1) * n]
    error = sum((p - q) ** 2 for p, q in zip(x, y)) / sum(q * q for q in y)
    assert error <= most, (t, error)
    errors.append(error)
    misses -= max(range(n), key=x.__getitem__) != max(range(n), key=y.__getitem__)
    assert misses >= 0, t
if len(sys.argv) > 6:
    assert statistics.median(errors) <= float(sys.argv[6]), errors
PYTHON
# exact but for the order of sums, with every type of keys and values; and with activations of 8 bits, which cost the CPU's kernels as much.
# Of 8 or 4 bits, a value between two steps may go either way, which all tokens behind it see.
for kv in f32 f16 q8_0 q4_0; do
    case $kv in q*) limits="1e-4 0 1e-7" ;; *) limits="1e-6 0" ;; esac
    with "" logits -m "$demo" --tokens "$ids" -o "$tmp/cuda.bin" --device cuda:0 --kv $kv --set cuda.act=f32
    PERIGEE_CPU_ISA=reference run logits -m "$demo" --tokens "$ids" -o "$tmp/ref.bin" --device cpu --kv $kv
    python3 "$tmp/near.py" "$tmp/cuda.bin" "$tmp/ref.bin" "$ids" $limits || fail "logits of cuda and of the reference differ with $kv keys and values"
done
PERIGEE_CPU_ISA=reference run logits -m "$demo" --tokens "$ids" -o "$tmp/ref.bin" --device cpu
with "" logits -m "$demo" --tokens "$ids" -o "$tmp/cuda.bin" --device cuda:0
python3 "$tmp/near.py" "$tmp/cuda.bin" "$tmp/ref.bin" "$ids" 1e-3 1 || fail "logits of cuda and of the reference differ by more than 8 bits can"

# ---- kernels that a driver cannot load: the next device takes over, or the error is clear ----
with module=222 run "${ask[@]}"
is "$out" "$cpu"
has "$err" "cuModuleLoadData of the kernels of moe: CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)"
has "$err" "cpu may help"
with module=209 1 run "${ask[@]}" --device cuda:0
has "$err" "CUDA_ERROR_NO_BINARY_FOR_GPU (209)"

# ---- too little memory: at the first buffer, in the middle of the weights, and by the size of the device ----
with mem=4 1 run "${ask[@]}" --device cuda:0
has "$err" "device cuda:0: not enough memory: needs 4 MiB, has 4 MiB"
with mem=4 explain "$demo"
has "$out" "cuda:0, cpu: the fastest has no room for all weights"
with mem=4 run "${ask[@]}"
is "$out" "$cpu"
for fake in alloc=1 alloc=20 mem=7; do
    with $fake run "${ask[@]}"
    is "$out" "$cpu"
    has "$err" "device cuda:0 was preferred but cannot run"
    has "$err" "CUDA_ERROR_OUT_OF_MEMORY (2)"
    case $fake in mem=*) has "$err" "cpu may help" ;; *) has "$err" "using cpu" ;; esac
    with $fake 1 run "${ask[@]}" --device cuda:0
    has "$err" "CUDA_ERROR_OUT_OF_MEMORY (2)"
    has "$err" "MiB are free"
done

# ---- the device is lost in the middle: a clear error, no crash, no hang ----
for n in 1 2 150 1000; do
    with launch=$n 1 run "${ask[@]}" --device cuda:0
    has "$err" "device cuda:0"
    has "$err" "CUDA_ERROR_LAUNCH_FAILED (719)"
done

# ---- forks, rewinds, the prefix cache, a saved session, sixteen at once: the same tokens (same.lua), bit for bit;
# minutes of a processor that plays a device, and so only with PERI_LONG ----
if [ -n "${PERI_LONG:-}" ]; then
    mkdir "$tmp/saved" && ln -s "$demo" "$tmp/model.gguf"
    for step in first second; do
        { printf 'local STEP, DIR, N, CHAINS = "%s", "saved", 6, { "plain" }\n' "$step"
          sed 's/device = "cpu"/device = "cuda:0"/' "$SOURCE_DIR/tests/e2e/same.lua"; } >"$tmp/$step.lua"
        (cd "$tmp" && with "" run "$step.lua" --allow fs.read=saved --allow fs.write=saved && [ "$n_failed" -eq 0 ]) || fail "same.lua, $step"
        cp "$tmp/out" "$tmp/$step.txt"
    done
    [ -s "$tmp/first.txt" ] || fail "same.lua printed nothing"
    is "$(cat "$tmp/second.txt")" "$(cat "$tmp/first.txt")"
fi

finish
