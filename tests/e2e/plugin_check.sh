# SPDX-License-Identifier: MIT
# perigee plugin-check: our plugins pass, each planted bug of tests/plugin/mutant.c is found by the stage it belongs to,
# with its operation named, and is not found when that stage is left out.
. "$(dirname "$0")/harness.sh"
plugins=$BINARY_DIR/$LIBDIR/perigee/0/plugins
mutant=$BINARY_DIR/tests/plugin/mutant.so
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
for isa in reference scalar avx2 avx512; do
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

# ---- planted bugs: name, stages that may find it (the first must), operation ----
n_bug=0
while read -r bug stages op; do
    # A sanitizer's heap has no figures to go by, and finds such leaks itself.
    [ -n "${SANITIZE:-}" ] && [ "$bug" = heap_leak ] && { n_bug=$((n_bug + 1)); continue; }
    set -- "$mutant" --set "mutant.base=$base" --set "mutant.bug=$bug" --timeout 5 --op "$op"
    skip=
    for stage in ${stages//,/ }; do skip="$skip --skip $stage"; done
    run 1 plugin-check "$@" --only "${stages%%,*}" --json
    python3 - "$tmp/out" "${stages%%,*}" "$op" "$bug" <<'PYTHON' || fail "bug $bug: $(head -c 600 "$tmp/out")"
import json, sys
path, stage, op, bug = sys.argv[1:]
j = json.load(open(path))
found = [f for s in j["stages"] for f in s["findings"] if s["name"] == stage]
assert found and j["findings"] == len(found), j
about = {"crash_in_list": "crashed (SIGILL) in device(1)", "unstable_list": "another answer", "unclosed": "not given back",
         "hang": "hung", "crash": "crashed (SIGILL) in run_op", "prints": "prints to standard", "past_weights": "SIGSEGV",
         "unknown_yes": "code that does not exist", "past_end": "wrote outside", "lying_supports": "said yes and run_op failed"}
assert about.get(bug, "") in found[0]["finding"], found[0]
if bug not in ("crash_in_list", "unstable_list", "unclosed", "prints", "hang", "unknown_yes"):
    assert found[0]["op"] == op and found[0]["shape"], found[0]
values = ("dropped_product", "wrong_row", "wrong_scale", "past_padding", "wrong_tie", "wrong_rounding", "wrong_angle",
          "batch_order", "unordered_sum", "ignored_table")
if bug in values:
    assert found[0]["row"] >= 0 and found[0]["found"] != found[0]["expected"], found[0]
PYTHON
    run plugin-check "$@" $skip
    n_bug=$((n_bug + 1))
done <<'BUGS'
dropped_product ops LINEAR
wrong_row ops,invariance EMBED
wrong_scale ops LINEAR
past_padding ops,invariance EXPERT_SUM
past_end ops GLU
past_weights ops,supports,invariance,lifecycle LINEAR
wrong_tie ops ROUTE
wrong_rounding ops KV_APPEND
wrong_angle ops,invariance ROPE
ignored_table ops,invariance ATTN
crash ops,supports,invariance,lifecycle LINEAR_EXPERTS
prints ops,supports,invariance,lifecycle SCALE
batch_order invariance NORM
unordered_sum invariance NORM
race invariance,ops ADD
leak lifecycle SCALE
heap_leak lifecycle SCALE
unclosed lifecycle SCALE
lying_supports supports,ops,invariance MUL
unknown_yes supports LINEAR
moody_supports supports,invariance ACT
silent_no supports ACT
hang supports LINEAR
crash_in_list describe SCALE
unstable_list describe SCALE
BUGS
is "$n_bug" 25
run plugin-check "$mutant" --set "mutant.base=$base" --op LINEAR
finish
