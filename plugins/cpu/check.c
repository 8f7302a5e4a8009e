/* SPDX-License-Identifier: MIT
 *
 * check.c - is an op what op.def says (perigee/op_check.h), with types that can be decoded? */
#include "check.h"

#include "ref.h"

static int can_decode(const void *user, uint32_t dtype) {
    (void)user;
    return ref_can_dequant(dtype);
}
static int can_cache(const void *user, uint32_t dtype) {
    (void)user;
    return ref_can_encode(dtype);
}

int cpu_check(const peri_program *p, uint32_t op, const peri_bucket *b, char why[88]) {
    static const peri_op_rules rules = {.can_decode = can_decode, .can_cache = can_cache};
    peri_op_check c = {.why = why};
    return peri_op_check_run(&c, &rules, p, op, b);
}
