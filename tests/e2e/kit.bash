# SPDX-License-Identifier: MIT
# kit.bash - sourced by tests of perigee plugin-check.
#
#   check_levels LEVEL... the cpu plugin passes all stages on these instruction sets, where this processor has them
#
#   check_bugs <TABLE     lines "BUG STAGE,STAGE... OP": each bug is found by the first stage, with OP named, and is not found
#                         when the stages listed are left out.  OP:TYPE narrows; -OP: a whole run, the finding names none.
# n_bug counts them.
#
# Under a sanitizer a bug is looked for, but not a second time without its stages: what runs then is the sound plugin, which
# check_levels runs as a whole; and the lifecycle, which is the same calls over and over, runs on one instruction set.
mutant=$BINARY_DIR/tests/plugin/mutant.so
base=$BINARY_DIR/$LIBDIR/perigee/0/plugins/cpu.so
n_bug=0

check_bugs() {
    local bug stages op stage skip first
    while read -r bug stages op; do
        n_bug=$((n_bug + 1))
        # A sanitizer's heap has no figures to go by, and finds such leaks itself.
        [ -n "${SANITIZE:-}" ] && case $bug in heap_leak | compiled_heap) continue ;; esac
        set -- "$mutant" --set "mutant.base=$base" --set "mutant.bug=$bug" --timeout 60
        case $bug in # of memory of its own
        write_short | read_start | copy_words)
            set -- "$mutant" --set "mutant.base=$BINARY_DIR/tests/plugin/twin.so" --set "twin.base=$base" \
                --set twin.devices=name=a,own=1,gbps=10 --set "mutant.bug=$bug" --timeout 60
            ;;
        esac
        case $op in *:*) set -- "$@" --type "${op#*:}" ;; esac
        op=${op%%:*}
        skip="--op ${op#-}"
        for stage in ${stages//,/ }; do skip="$skip --skip $stage"; done
        first="--op $op"
        case $op in -*) first='' op=- ;; esac
        [ "$bug" != hang ] || first="$first --timeout 2"
        run 1 plugin-check "$@" $first --only "${stages%%,*}" --json
        python3 - "$tmp/out" "${stages%%,*}" "$op" "$bug" <<'PYTHON' || fail "bug $bug: $(head -c 600 "$tmp/out")"
import json, sys
path, stage, op, bug = sys.argv[1:]
j = json.load(open(path))
found = [f for s in j["stages"] for f in s["findings"] if s["name"] == stage]
assert found and j["findings"] == len(found), j
about = {"rows_as_tokens": "SIGSEGV", "norm_rows": "SIGSEGV", "aligned_weights": "SIGILL", "aligned_rows": "SIGILL",
         "upper_bound": "said yes and run_op failed", "spoils_input": "wrote outside", "writes_pool": "changed the pool",
         "writes_step": "wrote into the step", "rough_numerics": "no class the kit knows", "endless_numerics": "does not end",
         "wide_answer": "past the room", "fails_large": "no without a reason", "per_worker": "with several threads",
         "by_address": "other bits", "tail_of_one": "pieces of 1", "leak_in_open": "not given back", "slot_reuse": "small model",
         "write_short": "memory: read whole", "read_start": "memory: read in part", "copy_words": "memory: read whole",
         "leak_in_supports": "blocks after", "padding_of_one": "pieces of 1", "nan_to_zero": "NaN and infinities",
         "no_infinity": "NaN and infinities", "by_clock": "other bits", "by_place": "other bits",
         "compiled_bind": "bound to other memory", "compiled_step": "logits of sequence",
         "compiled_bits": "one at a time", "compiled_leak": "keeps memory of host->alloc",
         "compiled_heap": "keeps memory of the C library",
         "crash_in_list": "crashed (SIGILL) in device(1)", "unstable_list": "another answer", "unclosed": "not given back",
         "hang": "hung", "crash": "crashed (SIGILL) in run_op", "prints": "prints to standard", "past_weights": "SIGSEGV",
         "unknown_yes": "code that does not exist", "past_end": "wrote outside", "lying_supports": "said yes and run_op failed"}
assert about.get(bug, "") in found[0]["finding"], found[0]
if bug not in ("crash_in_list", "unstable_list", "unclosed", "prints", "hang", "unknown_yes", "leak_in_open",
               "write_short", "read_start", "copy_words") and op != "-":
    assert found[0]["op"] == op and found[0]["shape"], found[0]
values = ("dropped_product", "wrong_row", "wrong_scale", "past_padding", "wrong_tie", "wrong_rounding", "wrong_angle",
          "batch_order", "unordered_sum", "ignored_table", "wide_window", "head_modulo", "by_address", "neighbour_scale",
          "short_position", "slot_reuse", "false_numerics", "second_tile", "expert_order", "per_worker", "topk_tie", "topk_dropped", "topk_nan",
          "odd_positions", "padding_of_one", "last_block", "zero_row", "zero_norm", "eps_inside", "nan_to_zero", "no_infinity",
          "by_clock", "by_place", "first_call", "chosen_twice", "block_border", "cap_last", "stale_bind", "swallowed",
          "no_route_scale", "one_group", "no_first", "no_embed_scale", "compiled_bind", "compiled_step", "compiled_bits")
if bug in values:
    assert found[0]["row"] >= 0 and found[0]["found"] != found[0]["expected"], found[0]
PYTHON
        [ -n "${SANITIZE:-}" ] || run plugin-check "$@" $skip
    done
}

check_levels() {
    local isa skip
    for isa in "$@"; do
        skip=
        [ -z "${SANITIZE:-}" ] || [ "$isa" = reference ] || skip="--skip lifecycle"
        "$PERIGEE" devices --set "cpu.isa=$isa" --json >"$tmp/devices" 2>/dev/null
        grep -q "\"isa\": \"$isa\"" "$tmp/devices" || { echo "not on this processor: $isa"; continue; }
        run plugin-check "$base" --set "cpu.isa=$isa" --timeout 60 --json $skip
        python3 - "$tmp/out" "$isa" "$skip" <<'PYTHON' || fail "plugin-check of cpu, $isa"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["passed"] and j["findings"] == 0, j
assert j["device"]["isa"] == sys.argv[2], j["device"]
skipped = [s["name"] for s in j["stages"] if s["state"] != "passed"]
assert len(j["stages"]) == 7 and skipped == sys.argv[3].split()[1:], j["stages"]
checks = {s["name"]: s["checks"] for s in j["stages"] if s["state"] == "passed"}
assert checks["ops"] > 300 and checks["invariance"] > 5000 and checks["model"] >= 28, checks
level0 = {o["op"] for o in j["operations"] if o["level"] == 0 and o["yes"]}
assert len(level0) == 15, level0
PYTHON
    done
}
