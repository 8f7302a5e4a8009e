# SPDX-License-Identifier: MIT
# perigee plugin-check of the OpenCL plugin.  Compiling every kernel for every type takes a minute of two cores, so here only
# some operations, each type once, and the small model, and with PERI_LONG (./check --long) all stages.
. "$(dirname "$0")/harness.sh"
plugin=$BINARY_DIR/$LIBDIR/perigee/0/plugins/opencl.so
[ -f "$plugin" ] || { echo "skipped: built without CL/cl.h"; exit 77; }
case $SANITIZE in thread) echo "skipped: a driver's threads are not ours to check"; exit 77 ;; esac
export POCL_CACHE_DIR=${POCL_CACHE_DIR:-$tmp/pocl}
# A driver's compiler keeps memory of its own and puts signal stacks of its own into place: not ours to judge.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}use_sigaltstack=0
export LSAN_OPTIONS=${LSAN_OPTIONS:+$LSAN_OPTIONS:}suppressions=$SOURCE_DIR/tests/support/drivers.supp:print_suppressions=0
"$PERIGEE" devices >"$tmp/out" 2>&1
grep -q 'opencl.so *opencl .* usable' "$tmp/out" || { echo "skipped: no OpenCL device (Debian: pocl-opencl-icd)"; exit 77; }

if [ -n "${PERI_LONG:-}" ]; then
    for shape in vector local; do
        run plugin-check "$plugin" --timeout 120 --set "opencl.shape=$shape"
        has "$out" "level 0: 15 of 15 operations"
    done
    finish
fi
for op in ADD KV_APPEND ROUTE ROPE; do
    run plugin-check "$plugin" --only ops --only invariance --only lifecycle --op $op --timeout 60
    has "$out" passed
done
run plugin-check "$plugin" --only ops --op EMBED --timeout 60 # every weight type
has "$out" passed
# The shapes of graphics cards: their barriers and local memory, on a few types, since every kernel takes a second to build.
for what in "NORM F32" "LINEAR Q4_K" "GATE_UP_GLU Q8_0" "ATTN F16"; do
    run plugin-check "$plugin" --only ops --only invariance --op "${what% *}" --type "${what#* }" --timeout 60 --set opencl.shape=local
    has "$out" passed
done
if command -v clang >/dev/null; then
    for shuffle in 0 1; do
        for file in "$SOURCE_DIR"/kernels-cl/*.cl; do
            clang -x cl -cl-std=CL3.0 -target spir64-unknown-unknown -Xclang -finclude-default-header -fsyntax-only -Werror \
                -DSHAPE=2 -DSHUFFLE=$shuffle -I "$SOURCE_DIR/kernels-cl" "$file" || fail "$file as sub-groups, shuffle $shuffle"
        done
    done
else
    echo "no clang: the kernels' sub-group shape was not compiled"
fi
run plugin-check "$plugin" --only load --only describe --only model --timeout 60 --json
python3 - "$tmp/out" <<'PYTHON' || fail "plugin-check of opencl"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["passed"] and j["findings"] == 0, j
assert j["device"]["batch_invariant"], j["device"]
assert {s["name"]: s["checks"] for s in j["stages"] if s["state"] == "passed"}["model"] >= 28, j["stages"]
PYTHON
finish
