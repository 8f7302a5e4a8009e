# SPDX-License-Identifier: MIT
# perigee plugin-check of the CUDA plugin with its kernels compiled for the processor (tests/plugin/cuda): every operation
# and type against the reference, and what else is quick; with PERI_LONG (./check --long) all stages in full.
. "$(dirname "$0")/harness.sh"
built=$BINARY_DIR/tests/plugin/cuda
[ -f "$built/driver/libcuda.so.1" ] || { echo "skipped: built without a C++ compiler (Debian: g++)"; exit 77; }
case $SANITIZE in thread) echo "skipped: fibers are not for the thread sanitizer"; exit 77 ;; esac
export LD_LIBRARY_PATH=$built/driver

if [ -n "${PERI_LONG:-}" ]; then
    run plugin-check "$built/cuda.so" --timeout 1200
    has "$out" "level 0: 15 of 15 operations"
    finish
fi
run plugin-check "$built/cuda.so" --only load --only describe --only supports --only ops --only model --timeout 250 --json
python3 - "$tmp/out" <<'PYTHON' || fail "plugin-check of cuda: $(head -c 600 "$tmp/out")"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["passed"] and j["findings"] == 0, j
assert j["device"]["batch_invariant"] and j["device"]["isa"] == "sm_90", j["device"]
checks = {s["name"]: s["checks"] for s in j["stages"] if s["state"] == "passed"}
assert checks["ops"] > 400 and checks["supports"] > 1000 and checks["model"] >= 28, checks
taken = {}
for o in j["operations"]:
    if o["yes"]:
        taken.setdefault(o["op"], set()).add(o["type"])
assert len(taken) == 19, sorted(taken)
assert all(len(taken[op]) >= 31 for op in ("EMBED", "LINEAR", "LINEAR_EXPERTS", "LINEAR_QKV", "GATE_UP_GLU")), taken
PYTHON
invariance="--only invariance"
[ -z "${SANITIZE:-}" ] || invariance= # equal bits of the kernels that ran above: nothing for a sanitizer, and a third of the time
for op in ADD ATTN ROUTE ROWS TOPK LINEAR_QKV GATE_UP_GLU LINEAR_EXPERTS; do
    run plugin-check "$built/cuda.so" $invariance --only lifecycle --op $op --timeout 120
    has "$out" passed
done
for op in LINEAR GATE_UP_GLU LINEAR_EXPERTS; do # the kernels for activations as they are, of all types
    run plugin-check "$built/cuda.so" --set cuda.act=f32 --only ops --op $op --timeout 120
    has "$out" passed
done

for op in LINEAR LINEAR_QKV GATE_UP_GLU LINEAR_EXPERTS; do # all types by tiles of 32 tokens, which pay only on many processors
    run plugin-check "$built/cuda.so" --set cuda.tile=32 --only ops --op $op --timeout 120
    has "$out" passed
done

# A check that finds nothing where nothing runs would be no check: the same kernels with a device lost half way.
FAKE_CUDA=launch=40 run 1 plugin-check "$built/cuda.so" --only ops --op LINEAR --timeout 60
has "$out" "CUDA_ERROR_LAUNCH_FAILED (719)"
finish
