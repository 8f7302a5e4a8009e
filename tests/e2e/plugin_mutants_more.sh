# SPDX-License-Identifier: MIT
# perigee plugin-check: the planted bugs of tests/plugin/mutant_more.c, as plugin_mutants.sh does it for the others.
. "$(dirname "$0")/harness.sh"
. "$(dirname "$0")/kit.bash"

check_bugs <<'BUGS'
wide_window ops ATTN:F32
not_causal ops ATTN:F32
no_param ops ACT
wrong_gelu ops ACT
no_sink ops ATTN:F32
no_factor ops ROPE
dense_input ops,invariance LINEAR:Q8_0
dense_output ops,invariance EXPERT_SUM
rows_as_tokens ops,supports,lifecycle LINEAR:F32
norm_rows ops,supports,lifecycle NORM
short_position ops ROPE
short_id ops EMBED
short_slot ops KV_APPEND:F16
one_sequence ops ATTN:F16
whole_blocks ops ATTN:F16
rows_in_order ops ROWS
bf16_as_f16 ops KV_APPEND:BF16
one_head_norm ops NORM
slot_reuse model -KV_APPEND
head_modulo ops ATTN:F32
by_address invariance ADD
aligned_weights ops,supports,invariance,lifecycle LINEAR:Q8_0
aligned_rows ops,supports,invariance,lifecycle GLU
upper_bound ops,invariance MUL
neighbour_scale ops,invariance LINEAR:Q8_0
tail_of_one invariance LINEAR:F32
expert_order ops LINEAR_EXPERTS:Q4_0
biased_weights ops ROUTE
lost_sum ops ADD_NORM
second_tile ops,invariance LINEAR:F16
many_rows ops LINEAR:F16
long_prompt ops,invariance ATTN:F32
many_experts ops LINEAR_EXPERTS:F16
wide_head ops ATTN:F32
per_worker invariance EXPERT_SUM
spoils_input ops ROUTE
writes_pool ops ATTN:F16
writes_step ops ROPE
once_in_a_while invariance,ops SCALE
false_numerics ops LINEAR:Q8_0
rough_numerics supports,ops LINEAR:F16
endless_numerics supports,ops ACT
wide_answer supports,ops,invariance,lifecycle ACT
leak_in_supports lifecycle ACT
fails_large supports GLU
leak_in_open lifecycle SCALE
write_short lifecycle SCALE
read_start lifecycle SCALE
copy_words lifecycle SCALE
BUGS
is "$n_bug" 49

# A sound device with memory of its own.
run plugin-check "$mutant" --set "mutant.base=$BINARY_DIR/tests/plugin/twin.so" --set "twin.base=$base" \
    --set twin.devices=name=a,own=1,gbps=10 --timeout 60 --only lifecycle --only model --only ops
has "$out" passed
finish
