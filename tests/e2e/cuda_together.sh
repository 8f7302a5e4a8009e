# SPDX-License-Identifier: MIT
# Ops that the CUDA plugin takes together (plugins/cuda/together.c), on the stand-in for its driver: in a compiled step they
# are one launch, and the logits are those of the same ops launched one by one, bit for bit: models of all kinds of heads,
# one token and several at a time.
. "$(dirname "$0")/harness.sh"
built=$BINARY_DIR/tests/plugin/cuda
[ -f "$built/driver/libcuda.so.1" ] || { echo "skipped: built without a C++ compiler (Debian: g++)"; exit 77; }
case $SANITIZE in thread) echo "skipped: fibers are not for the thread sanitizer"; exit 77 ;; esac
mkdir "$tmp/plugins"
cp "$BINARY_DIR/$LIBDIR/perigee/0/plugins/cpu.so" "$built/cuda.so" "$tmp/plugins"
export LD_LIBRARY_PATH=$built/driver PERIGEE_PLUGIN_PATH=$tmp/plugins PERIGEE_PLACE_FIGURES=declared FAKE_CUDA=kernels

# launches KERNEL: how often it was launched, as the last run says
launches() {
    sed -n "s/^stand-in libcuda: \([0-9]*\) launches of peri_$1$/\1/p" "$tmp/err" | awk '{ n += $1 } END { print n + 0 }'
}

ids=1,5,9,13,17,21,25,29,33,37,41,3,7
# same MODEL OPTION...
same() {
    local model=$1
    shift
    run logits -m "$model" --tokens "$ids" -o "$tmp/single.bin" --device cuda:0 --set cuda.together=0 "$@"
    is "$(launches 'heads.*')" 0
    [ "$(launches rope)" -gt 0 ] || fail "$model $*: no rope alone"
    run logits -m "$model" --tokens "$ids" -o "$tmp/together.bin" --device cuda:0 "$@"
    cmp -s "$tmp/single.bin" "$tmp/together.bin" || fail "$model $*: other bits"
    [ "$(launches 'heads.*')" -gt 0 ] || fail "$model $*: nothing was taken together"
    for kernel in rope 'kv_append.*'; do
        is "$(launches "$kernel")" 0
    done
}

for arch in llama qwen3 phi3 gemma3 qwen3moe; do # pairs of both kinds, norms of heads, factors, rows of one product, windows
    "$BINARY_DIR/tests/tiny_model" "$arch" Q8_0 1 "$tmp/$arch.gguf" || fail "tiny_model $arch"
    for chunk in 1 5; do
        same "$tmp/$arch.gguf" --chunk $chunk
    done
    same "$tmp/$arch.gguf" --chunk 4 --kv f32
done

# ---- a sum of experts and the norm behind it, but where that norm lies where rows of other tokens' experts are still read:
# in a model whose experts are narrower than its rows, and only for several tokens ----
narrow=$tmp/narrow.gguf
python3 - "$SOURCE_DIR/tests/perf" "$narrow" <<'PYTHON' || fail "no model with narrow experts"
import sys
sys.path.insert(0, sys.argv[1])
import cuda_shapes
cuda_shapes.SHAPES["narrow"] = dict(cuda_shapes.SHAPES["toy-experts"], d=1024, ffe=32, used=1)
cuda_shapes.write("narrow", sys.argv[2], "Q8_0")
PYTHON
# sums MODEL CHUNK APART: the same, and so many of EXPERT_SUM by themselves, of those with cuda.together=0
sums() {
    local all
    same "$1" --chunk "$2"
    n_sum=$(launches expert_sum) n_both=$(launches sum_norm)
    run logits -m "$1" --tokens "$ids" -o "$tmp/single.bin" --device cuda:0 --set cuda.together=0 --chunk "$2"
    all=$(launches expert_sum)
    is "$((n_sum + n_both)) $((n_sum * 4 / all))" "$all $3"
}
sums "$tmp/qwen3moe.gguf" 1 2 # of two layers the last has no norm behind it
sums "$tmp/qwen3moe.gguf" 5 2
sums "$narrow" 1 2
sums "$narrow" 5 3

# ---- a router and ROUTE, for up to two tokens at a time, with weights of each type that there is a kernel for, and rows
# that are no multiple of a block's ----
for type in F32 F16 BF16; do
    python3 - "$SOURCE_DIR/tests/perf" "$tmp/$type.gguf" "$type" <<'PYTHON' || fail "no model with a router of $type"
import struct, sys
sys.path.insert(0, sys.argv[1])
import cuda_shapes
tensors, run_of = cuda_shapes.tensors, cuda_shapes.run_of
cuda_shapes.TYPES["F16"] = (1, 1, 2, (), 0)
cuda_shapes.tensors = lambda s, mix: [(name, shape, sys.argv[3] if "gate_inp" in name else kind)
                                      for name, shape, kind in tensors(s, mix)]
cuda_shapes.run_of = lambda kind, width, rng: (
    b"".join(struct.pack("<e", rng.gauss(0, width ** -0.5)) for _ in range(65537)) if kind == "F16"
    else run_of(kind, width, rng))
cuda_shapes.SHAPES["router"] = dict(cuda_shapes.SHAPES["toy-experts"], experts=10, used=3)
cuda_shapes.write("router", sys.argv[2], "Q8_0")
PYTHON
done
# routes MODEL BOTH ALONE OPTION...: the same, in so many launches of LINEAR with ROUTE and of ROUTE by itself, but for those
# that a graph replays
routes() {
    local model=$1 both=$2 alone=$3
    shift 3
    same "$model" "$@"
    is "$(launches 'linear_route_.*') $(launches route)" "$both $alone"
    is "$(launches 'linear_few_\(0\|1\|30\)')" 0
}
for type in F32 F16 BF16; do # two layers, in steps that are run and recorded; 13 tokens leave a last step of one
    routes "$tmp/$type.gguf" 4 0 --chunk 1
    routes "$tmp/$type.gguf" 6 0 --chunk 2
    routes "$tmp/$type.gguf" 2 4 --chunk 3
    routes "$tmp/$type.gguf" 4 0 --chunk 1 --set cuda.act=f32
done
finish
