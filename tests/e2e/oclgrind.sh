# SPDX-License-Identifier: MIT
# The kernels of kernels-cl in oclgrind, a simulator that sees reads and writes out of bounds, races, values that were never
# written and barriers that not all reach: plugin-check of small shapes with every shape of device that the plugin knows.  The
# simulator's exit status says nothing; its log has to be empty.  A few kernels here, all of them with PERI_LONG (./check --long).
. "$(dirname "$0")/harness.sh"
plugin=$BINARY_DIR/$LIBDIR/perigee/0/plugins/opencl.so
icd=/usr/lib/oclgrind/liboclgrind-rt-icd.so
[ -f "$plugin" ] || { echo "skipped: built without CL/cl.h"; exit 77; }
[ -z "${SANITIZE:-}" ] || { echo "skipped: the simulator looks at the kernels, not at us"; exit 77; }
if ! command -v oclgrind-kernel >/dev/null || [ ! -f "$icd" ]; then
    echo "skipped: no simulator (Debian 12: oclgrind)"
    exit 77
fi
mkdir "$tmp/vendors"
echo "$icd" >"$tmp/vendors/oclgrind.icd"
export OCL_ICD_VENDORS=$tmp/vendors OCLGRIND_LOG=$tmp/log OCLGRIND_DATA_RACES=1 OCLGRIND_UNINITIALIZED=1
# Without optimisation, because version 21.10 knows nothing of an intrinsic that inlining makes; APART: common.clh.
options="-cl-opt-disable -DAPART"
export OCLGRIND_BUILD_OPTIONS=$options

# ---- it finds what it is there for ----
cat >"$tmp/planted.cl" <<'KERNELS'
#define T(n) kernel void n(global const float *x, global float *y, local float *l)
#define I    get_local_id(0)
T(sound) { l[I] = x[I]; barrier(CLK_LOCAL_MEM_FENCE); y[I] = l[3 - I]; }
T(outside) { l[I] = x[I + 1]; barrier(CLK_LOCAL_MEM_FENCE); y[I] = l[3 - I]; }
T(racing) { l[I] = x[I]; y[I] = l[3 - I]; }
T(unwritten) { if (I < 3) l[I] = x[I]; barrier(CLK_LOCAL_MEM_FENCE); y[I] = l[3 - I] > 0.0f ? 1.0f : 2.0f; }
T(divergent) { l[I] = x[I]; if (I < 2) barrier(CLK_LOCAL_MEM_FENCE); y[I] = 1.0f; }
KERNELS
while read -r name text; do
    printf 'planted.cl\n%s\n4 1 1\n4 1 1\n<size=16 float fill=1>\n<size=16 float fill=0>\n<size=16>\n' "$name" >"$tmp/planted.sim"
    (cd "$tmp" && oclgrind-kernel --data-races --uninitialized --build-options "$options" planted.sim) >"$tmp/said" 2>&1
    if [ -n "$text" ]; then has "$(cat "$tmp/said" "$tmp/log")" "$text"; else is "$(cat "$tmp/log")" ""; fi
    rm -f "$tmp/log"
done <<'PLANTED'
sound
outside Invalid read
racing race
unwritten ninitialized
divergent divergence
PLANTED

# ---- ours ----
clean() {
    n_check=$((n_check + 1))
    [ -f "$tmp/log" ] || { fail "$1: the simulator wrote no log, so it was not used"; return; }
    [ -s "$tmp/log" ] && fail "$1: $(head -c 1500 "$tmp/log")"
    rm -f "$tmp/log"
}
run devices
has "$out" "opencl.so"
is "$("$PERIGEE" devices --json 2>/dev/null | grep -c '"model": "Oclgrind Simulator"')" 1
# Shapes of device, as the plugin's own refusal of an unknown one lists them.
"$PERIGEE" plugin-check "$plugin" --set opencl.shape=none --only lifecycle --op ADD >"$tmp/out" 2>&1
shapes=$(sed -n 's/.*opencl\.shape: "none" is unknown; there are \([a-z, -]*\).*/\1/p' "$tmp/out" | head -n 1 | tr -d ',' | sed 's/ and / /; s/ alone//')
rm -f "$tmp/log"
if [ -n "${PERI_LONG:-}" ]; then
    ops=$(cd "$SOURCE_DIR/kernels-cl" && ls ./*.cl | sed 's#^\./##; s/\.cl$//' | tr a-z A-Z)
else
    ops="NORM ROUTE KV_APPEND ROPE EXPERT_SUM"
fi
for shape in ${shapes:-default}; do
    if [ "$shape" = default ]; then set --; else set -- --set "opencl.shape=$shape"; fi
    for op in $ops; do
        grep -q "^PERI_OP($op," "$SOURCE_DIR/include/perigee/op.def" || continue
        run plugin-check "$plugin" --only supports --op "$op" --small --timeout 300 --json "$@"
        clean "supports of $op, shape $shape"
        n_check=$((n_check + 1))
        python3 -c 'import json, sys; sys.exit(not any(o["yes"] for o in json.load(open(sys.argv[1]))["operations"]))' "$tmp/out" ||
            fail "$op, shape $shape: taken for no type: $out"
        run plugin-check "$plugin" --only ops --op "$op" --small --timeout 300 "$@"
        clean "$op, shape $shape"
    done
done

# ---- a whole model: what runs in one launch for a few tokens (heads.cl), with and without norms ----
for arch in qwen3 llama; do
    "$BINARY_DIR/tests/tiny_model" "$arch" Q8_0 1 "$tmp/tiny.gguf" || fail "tiny_model $arch"
    run logits -q -m "$tmp/tiny.gguf" --tokens 1,2,3 -o "$tmp/opencl.bin" --device opencl --set place.figures=declared
    clean "logits of $arch"
    run logits -q -m "$tmp/tiny.gguf" --tokens 1,2,3 -o "$tmp/cpu.bin" --device cpu
    n_check=$((n_check + 1))
    python3 - "$tmp/opencl.bin" "$tmp/cpu.bin" <<'PYTHON' || fail "logits of $arch"
import array, sys
a, b = (array.array("f", open(p, "rb").read()) for p in sys.argv[1:])
assert len(a) == len(b) > 0, (len(a), len(b))
error = sum((p - q) ** 2 for p, q in zip(a, b)) / sum(q * q for q in b)
assert error <= 1e-8, error
PYTHON
done
cat "$XDG_CACHE_HOME"/perigee/opencl/*.bin | tr '\0' '\n' | grep -aqx heads || fail "no run of several operations in one launch"
[ -n "${PERI_LONG:-}" ] || finish

# ---- every file of kernels-cl was built for one of them: a program's key in the cache says its name, then its options ----
cat "$XDG_CACHE_HOME"/perigee/opencl/*.bin | tr '\0' '\n' | grep -aB 1 '^-cl-std=' | sort -u >"$tmp/built"
for file in "$SOURCE_DIR"/kernels-cl/*.cl; do
    name=$(basename "$file" .cl)
    n_check=$((n_check + 1))
    grep -qx "$name" "$tmp/built" || fail "kernels-cl/$name.cl was not built for any operation, type and shape of the kit"
done
finish
