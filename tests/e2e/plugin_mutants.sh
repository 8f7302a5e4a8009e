# SPDX-License-Identifier: MIT
# perigee plugin-check: each planted bug of tests/plugin/mutant.c is found by the stage it belongs to, with its operation
# named, and is not found when the stages that may find it are left out.
. "$(dirname "$0")/harness.sh"
. "$(dirname "$0")/kit.bash"
check_bugs <<'BUGS'
dropped_product ops LINEAR:F32
wrong_row ops,invariance EMBED
wrong_scale ops LINEAR:Q5_1
past_padding ops,invariance EXPERT_SUM
past_end ops GLU
past_weights ops,supports,invariance,lifecycle LINEAR:F16
wrong_tie ops ROUTE
wrong_rounding ops KV_APPEND
wrong_angle ops,invariance ROPE
ignored_table ops,invariance ATTN:F16
crash ops,supports,invariance,lifecycle LINEAR_EXPERTS
prints ops,supports,invariance,lifecycle SCALE
batch_order invariance NORM
unordered_sum invariance NORM
race invariance,ops ADD
leak lifecycle SCALE
heap_leak lifecycle SCALE
unclosed lifecycle SCALE
late_token ops,invariance LINEAR:F16
wide_row ops LINEAR:Q8_0
hot_softplus ops ACT
hot_softmax ops,supports ATTN:F16
padding_slot ops,invariance KV_APPEND
topk_tie ops TOPK
topk_dropped ops,invariance TOPK
topk_nan ops TOPK
forgotten_keys ops ATTN:F16
no_eps ops NORM
no_cap ops ATTN:F16
no_window ops ATTN:F16
no_chunk ops ATTN:F16
no_slopes ops ATTN:F16
no_groups ops ROUTE
no_groups model,ops -ROUTE
no_renorm ops ROUTE
no_ramp ops ROPE
no_magnitude ops ROPE
scale_first ops LINEAR:Q4_K
positions_as_ids ops EMBED
lying_supports supports,ops,invariance MUL
unknown_yes supports LINEAR:F32
moody_supports supports,invariance ACT
silent_no supports ACT
hang supports LINEAR:F32
crash_in_list describe SCALE
unstable_list describe SCALE
BUGS
is "$n_bug" 46
run plugin-check "$mutant" --set "mutant.base=$base" --op LINEAR
finish
