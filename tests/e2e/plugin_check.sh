# SPDX-License-Identifier: MIT
# perigee plugin-check: usage, and our own plugins: cpu passes on every instruction set, null as far as it claims.
. "$(dirname "$0")/harness.sh"
plugins=$BINARY_DIR/$LIBDIR/perigee/0/plugins
base=$plugins/cpu.so

# ---- usage ----
run 1 plugin-check "$tmp/none.so"
has "$err" "none.so: no such file"
run 2 plugin-check "$base" --only luck
has "$err" 'no stage "luck"; there are load, describe'
run 2 plugin-check "$base" --op linear
has "$err" 'no operation "linear"'
run 2 plugin-check
echo text >"$tmp/text.so"
run 1 plugin-check "$tmp/text.so" --only load
has "$out" "note: "

# ---- ours ----
for isa in reference scalar avx2 avx2vnni avx512 avx512vnni; do
    "$PERIGEE" devices --set "cpu.isa=$isa" --json >"$tmp/devices" 2>/dev/null
    grep -q "\"isa\": \"$isa\"" "$tmp/devices" || { echo "not on this processor: $isa"; continue; }
    run plugin-check "$base" --set "cpu.isa=$isa" --json
    python3 - "$tmp/out" "$isa" <<'PYTHON' || fail "plugin-check of cpu, $isa"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["passed"] and j["findings"] == 0, j
assert j["device"]["isa"] == sys.argv[2], j["device"]
assert [s["state"] for s in j["stages"]] == ["passed"] * 7, j["stages"]
checks = {s["name"]: s["checks"] for s in j["stages"]}
assert checks["ops"] > 300 and checks["invariance"] > 5000 and checks["model"] >= 28, checks
level0 = {o["op"] for o in j["operations"] if o["level"] == 0 and o["yes"]}
assert len(level0) == 15, level0
PYTHON
done
null="$plugins/null.so --set null.devices=name=fake0 --timeout 3"
run plugin-check $null
has "$out" "level 0: 0 of 15 operations"
run 1 plugin-check $null --set null.supports=all --only ops --op LINEAR
has "$out" "LINEAR F32"
has "$out" "found 0, expected"
run 1 plugin-check $null --set null.supports=ADD --set null.fault=run:crash --only ops
has "$out" "ADD F32"
has "$out" "crashed (SIGILL) in run_op"
run 1 plugin-check "$plugins/null.so" --only describe
has "$out" "no device 0 to check: option null.devices names none"

finish
