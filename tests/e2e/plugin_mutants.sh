# SPDX-License-Identifier: MIT
# perigee plugin-check: each planted bug of tests/plugin/mutant.c is found by the stage it belongs to, with its operation
# named, and is not found when the stages that may find it are left out.
. "$(dirname "$0")/harness.sh"
mutant=$BINARY_DIR/tests/plugin/mutant.so
base=$BINARY_DIR/$LIBDIR/perigee/0/plugins/cpu.so

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
          "batch_order", "unordered_sum", "ignored_table", "topk_tie", "topk_dropped", "topk_nan")
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
late_token ops,invariance LINEAR
wide_row ops LINEAR
hot_softplus ops ACT
hot_softmax ops,supports ATTN
padding_slot ops,invariance KV_APPEND
topk_tie ops TOPK
topk_dropped ops,invariance TOPK
topk_nan ops TOPK
forgotten_keys ops ATTN
no_eps ops NORM
no_cap ops ATTN
no_window ops ATTN
no_chunk ops ATTN
no_slopes ops ATTN
no_groups ops ROUTE
no_renorm ops ROUTE
no_ramp ops ROPE
no_magnitude ops ROPE
scale_first ops LINEAR
positions_as_ids ops EMBED
lying_supports supports,ops,invariance MUL
unknown_yes supports LINEAR
moody_supports supports,invariance ACT
silent_no supports ACT
hang supports LINEAR
crash_in_list describe SCALE
unstable_list describe SCALE
BUGS
is "$n_bug" 45
run plugin-check "$mutant" --set "mutant.base=$base" --op LINEAR
finish
