# SPDX-License-Identifier: MIT
# perigee plugin-check: the planted bugs of tests/plugin/mutant_odd.c, as plugin_mutants.sh does it for the others.
. "$(dirname "$0")/harness.sh"
. "$(dirname "$0")/kit.bash"

check_bugs <<'BUGS'
odd_positions ops ROPE
padding_of_one invariance,ops NORM
last_block ops LINEAR:Q8_0
zero_row ops LINEAR:Q4_0
zero_norm ops NORM
eps_inside ops NORM
nan_to_zero ops MUL
no_infinity ops ADD
by_clock invariance,ops SCALE
by_place invariance,ops SCALE
first_call ops,invariance SCALE
chosen_twice ops ROUTE
block_border ops KV_APPEND:F32
cap_last ops ATTN:F16
stale_bind ops,supports,invariance,lifecycle SCALE
swallowed ops,invariance GLU
no_route_scale ops ROUTE
one_group ops ROUTE
no_first ops ROPE
no_embed_scale ops EMBED:F32
compiled_bind model -NORM
compiled_step model -NORM
compiled_bits model -NORM
compiled_leak model -NORM
compiled_heap model -NORM
BUGS
is "$n_bug" 25

# Sound ones: results too small to be seen that are nothing, and programs that are compiled.
run plugin-check "$mutant" --set "mutant.base=$base" --set mutant.bug=no_denormal --op NORM
run plugin-check "$mutant" --set "mutant.base=$base" --set mutant.bug=compiled_well --only model
has "$out" passed
finish
