/* SPDX-License-Identifier: MIT
 *
 * Building, placing, lowering and packing graphs. */
#include "harness.h"

#include <string.h>

#include "base/alloc.h"
#include "fault.h"
#include "graph/graph.h"
#include "model/dtype.h"

static peri_bucket bucket(int32_t n_tok) {
    peri_bucket b = {.size = sizeof b};
    b.hi[PERI_SYM_T] = b.hi[PERI_SYM_S] = b.hi[PERI_SYM_R] = b.hi[PERI_SYM_B] = n_tok;
    return b;
}

static uint32_t rows(peri_graph *g, int64_t n) {
    return peri_graph_act(g, PERI_DT_F32, (const int64_t[]){-PERI_SYM_T, n}, 2);
}

static void add(peri_graph *g, uint32_t a, uint32_t b, uint32_t y) {
    peri_graph_add(g, PERI_OP_ADD, (const uint32_t[]){a, b, y}, 2, 1, NULL, 0);
}

/* Do the storages of two tensors overlap in the arena at the bucket's bounds? */
static int overlaps(const peri_program *p, uint32_t a, uint32_t b, const peri_bucket *k) {
    const peri_tensor *x = peri_tensor_at(p, a), *y = peri_tensor_at(p, b);
    uint64_t nx = (uint64_t)peri_dim(x, 2, k->hi) * x->dim[3] * 4,
             ny = (uint64_t)peri_dim(y, 2, k->hi) * y->dim[3] * 4;
    return x->off < y->off + ny && y->off < x->off + nx;
}

static void live_tensors_never_share_and_dead_ones_do(void **state) {
    (void)state;
    peri_graph g;
    peri_program *p;
    peri_error err;
    peri_bucket b = bucket(7);
    peri_graph_init(&g);
    uint32_t a = rows(&g, 33), c = rows(&g, 10), d = rows(&g, 33), e = rows(&g, 33);
    add(&g, a, a, d); /* a and d live together; a dies */
    add(&g, d, d, c);
    add(&g, d, c, e); /* e may take a's place */
    assert_ok(peri_graph_pack(&g, &b, &p, &err), err);
    assert_false(overlaps(p, a, d, &b));
    assert_false(overlaps(p, d, c, &b));
    assert_false(overlaps(p, d, e, &b));
    assert_false(overlaps(p, c, e, &b));
    assert_true(overlaps(p, a, e, &b) || overlaps(p, a, c, &b));
    assert_true(p->arena_bytes >= 2 * 7 * 33 * 4);
    assert_true(p->arena_bytes < 4 * 7 * 33 * 4);
    peri_free(p);
    peri_graph_fini(&g);
}

static void a_view_lies_inside_its_parent(void **state) {
    (void)state;
    peri_graph g;
    peri_program *p;
    peri_error err;
    peri_bucket b = bucket(4);
    peri_graph_init(&g);
    uint32_t x = rows(&g, 24), y = rows(&g, 8);
    uint32_t v = peri_graph_view(&g, x, (const int64_t[]){-PERI_SYM_T, 2, 4}, 3, 16);
    add(&g, x, x, x);
    peri_graph_add(&g, PERI_OP_SCALE, (const uint32_t[]){v, y}, 1, 1, NULL, 0);
    assert_ok(peri_graph_pack(&g, &b, &p, &err), err);
    const peri_tensor *tx = peri_tensor_at(p, x), *tv = peri_tensor_at(p, v);
    assert_int_equal(tv->off, tx->off + 64);
    assert_int_equal(tv->dim[1], -PERI_SYM_T);
    assert_int_equal(tv->stride[1], 24 * 4);
    assert_int_equal(tv->stride[2], 4 * 4);
    assert_int_equal(tv->stride[3], 4);
    assert_false(overlaps(p, x, y, &b));
    peri_free(p);
    peri_graph_fini(&g);
}

static void lowering_keeps_order_operands_and_results(void **state) {
    (void)state;
    peri_graph g;
    const int64_t shape[4] = {1, 1, 16, 8};
    peri_graph_init(&g);
    g.layer = 3;
    uint32_t x = rows(&g, 8), y = rows(&g, 16), z = rows(&g, 16);
    uint32_t wg = peri_graph_weight(&g, 0, PERI_DT_Q8_0, shape),
             wu = peri_graph_weight(&g, 1, PERI_DT_F32, shape);
    peri_act_attr act = {.size = sizeof act, .act = PERI_ACT_GELU};
    add(&g, x, x, x);
    peri_graph_add(&g, PERI_OP_GATE_UP_GLU, (const uint32_t[]){x, wg, wu, y}, 3, 1, &act,
                   sizeof act);
    add(&g, y, y, z);
    assert_false(peri_graph_lower(&g, 0));
    assert_true(peri_graph_lower(&g, 1));
    assert_int_equal(g.n_op, 5);
    const uint16_t want[] = {PERI_OP_ADD, PERI_OP_LINEAR, PERI_OP_LINEAR, PERI_OP_GLU, PERI_OP_ADD};
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(g.op[i].code, want[i]);
    assert_int_equal(g.op[1].operand[1], wg);
    assert_int_equal(g.op[2].operand[1], wu);
    assert_int_equal(g.op[3].operand[1], g.op[2].operand[4]); /* up feeds the GLU */
    assert_int_equal(g.op[3].operand[2], y);
    assert_int_equal(((peri_act_attr *)g.op[3].attr)->act, PERI_ACT_GELU);
    assert_int_equal(g.op[2].layer, 3);
    assert_int_equal(g.tensor[wg].t.stride[2], 0); /* block types have no strides */
    assert_int_equal(g.tensor[wu].t.stride[2], 8 * 4);
    peri_graph_fini(&g);
}

static void every_op_above_level_0_has_a_lowering(void **state) {
    (void)state;
    static const struct {
        uint16_t code;
        int level, n_in, n_out;
    } op[] = {
#define PERI_OP(NAME, number, level, n_in, n_out, attr) {number, level, n_in, n_out},
#include "perigee/op.def"
#undef PERI_OP
    };
    for (size_t i = 0; i < sizeof op / sizeof op[0]; i++) {
        peri_graph g;
        uint32_t operand[16];
        assert_string_not_equal(peri_op_name(op[i].code), "?");
        assert_int_equal(peri_op_level(op[i].code), op[i].level);
        peri_graph_init(&g);
        for (int k = 0; k < op[i].n_in + op[i].n_out; k++)
            operand[k] = rows(&g, 4);
        peri_graph_add(&g, op[i].code, operand, op[i].n_in, op[i].n_out, NULL, 0);
        assert_int_equal(peri_graph_lower(&g, 0), op[i].level > 0);
        for (uint32_t k = 0; k < g.n_op && op[i].level > 0; k++)
            assert_true(peri_op_level(g.op[k].code) < op[i].level);
        peri_graph_fini(&g);
    }
    assert_string_equal(peri_op_name(0x7777), "?");
}

static void the_hash_sees_attributes(void **state) {
    (void)state;
    uint64_t hash[2];
    peri_bucket b = bucket(4);
    peri_error err;
    for (int i = 0; i < 2; i++) {
        peri_graph g;
        peri_program *p;
        peri_scale_attr s = {.size = sizeof s, .scale = (float)i};
        peri_graph_init(&g);
        uint32_t x = rows(&g, 8);
        peri_graph_add(&g, PERI_OP_SCALE, (const uint32_t[]){x, x}, 1, 1, &s, sizeof s);
        assert_ok(peri_graph_pack(&g, &b, &p, &err), err);
        hash[i] = p->hash;
        peri_free(p);
        peri_graph_fini(&g);
    }
    assert_true(hash[0] != hash[1]);
}

static void an_activation_too_large_is_an_error(void **state) {
    (void)state;
    peri_graph g;
    peri_program *p;
    peri_error err;
    peri_bucket b = bucket(INT32_MAX);
    peri_graph_init(&g);
    uint32_t x =
        peri_graph_act(&g, PERI_DT_F32, (const int64_t[]){-PERI_SYM_T, INT32_MAX, INT32_MAX}, 3);
    add(&g, x, x, x);
    assert_int_equal(peri_graph_pack(&g, &b, &p, &err), PERI_E_RANGE);
    assert_error(&err, PERI_E_RANGE, "ADD");
    peri_graph_fini(&g);
}

static void running_out_of_memory_is_an_error_at_every_call(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    peri_bucket b = bucket(4);
    for (uint64_t n = 1;; n++) {
        peri_graph g;
        peri_program *p;
        peri_error err;
        f->calls = 0;
        f->fail_at = n;
        peri_graph_init(&g);
        uint32_t x = rows(&g, 8);
        for (int i = 0; i < 300; i++)
            add(&g, x, x, rows(&g, 8));
        peri_status st = peri_graph_pack(&g, &b, &p, &err);
        peri_free(p);
        peri_graph_fini(&g);
        assert_int_equal(f->live, 0);
        if (f->calls < n) {
            assert_int_equal(st, PERI_OK);
            assert_true(n > 4);
            break;
        }
        assert_int_equal(st, PERI_E_NOMEM);
    }
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_tensors_never_share_and_dead_ones_do),
        cmocka_unit_test(a_view_lies_inside_its_parent),
        cmocka_unit_test(lowering_keeps_order_operands_and_results),
        cmocka_unit_test(every_op_above_level_0_has_a_lowering),
        cmocka_unit_test(the_hash_sees_attributes),
        cmocka_unit_test(an_activation_too_large_is_an_error),
        cmocka_unit_test(running_out_of_memory_is_an_error_at_every_call),
    };
    return peri_run_tests(tests);
}
