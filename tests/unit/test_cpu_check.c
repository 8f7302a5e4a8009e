/* SPDX-License-Identifier: MIT
 *
 * test_cpu_check.c - what the CPU plugin refuses and how it says so; its devices, options, memory.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "amx.h"
#include "check.h"
#include "harness.h"
#include "kernels.h"
#include "op_case.h"
#include "ref.h"

enum { F32 = PERI_CPU_F32, N = 64, M = 8 };

static float values[N * N];

/* A LINEAR that is right in every way. */
static prog *new_linear(peri_dev *d, uint32_t dtype) {
    static unsigned char weights[N * M * 8];
    peri_linear_attr a = {.size = sizeof a};
    prog *p = prog_new(d, 3);
    p->code = PERI_OP_LINEAR;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, N), values, 0);
    prog_weight(p, dtype, DIMS(1, 1, M, N), weights);
    prog_in(p, DIMS(1, 1, 1, M), NULL, 0);
    prog_in(p, DIMS(1, 1, 1, 1), NULL, 0);
    prog_out(p, F32, DIMS(1, 1, -PERI_SYM_T, M), 0);
    prog_attr(p, &a, sizeof a);
    return p;
}

/* supports() says no, with `reason` in its words; frees p. */
static void refused(prog *p, const char *reason) {
    if (prog_supports(p)) fail_msg("accepted; \"%s\" expected", reason);
    if (!strstr(p->why, reason)) fail_msg("refused with \"%s\", expected \"%s\"", p->why, reason);
    prog_free(p);
}

static void accepted(prog *p) {
    if (!prog_supports(p)) fail_msg("refused: %s", p->why);
    assert_true(p->numerics[0] != 0);
    prog_free(p);
}

static void supports_names_the_type_it_cannot_decode(void **state) {
    (void)state;
    peri_dev *d = open_cpu(NULL, 1);
    accepted(new_linear(d, F32));
    accepted(new_linear(d, PERI_CPU_Q4_0));
    accepted(new_linear(d, PERI_CPU_IQ4_NL));
    accepted(new_linear(d, PERI_CPU_MXFP4));
    refused(new_linear(d, PERI_CPU_I8), "weights of type I8: no kernel decodes them");
    refused(new_linear(d, PERI_CPU_I64), "weights of type I64: no kernel decodes them");
    refused(new_linear(d, 5), "weights of type number 5: unknown");
    refused(new_linear(d, PERI_CPU_Q4_K), "not whole blocks of type Q4_K");
    refused(new_linear(d, PERI_CPU_IQ2_XXS), "not whole blocks of type IQ2_XXS");
    close_cpu(d);
}

static void supports_refuses_operations_and_attributes_it_does_not_know(void **state) {
    (void)state;
    peri_dev *d = open_cpu(NULL, 1);
    prog *p = new_linear(d, F32);
    p->code = 0x0fff;
    refused(p, "operation 0x0fff is unknown here");
    p = new_linear(d, F32);
    p->attr_size = 4;
    refused(p, "of attributes in 4");
    p = new_linear(d, F32);
    p->attr_size = 0;
    refused(p, "of attributes in 0");
    p = new_linear(d, F32);
    p->attr[0] = 200; /* says more than there is */
    refused(p, "200 bytes of attributes in 8");
    p = new_linear(d, F32);
    p->attr_size = 12; /* a field of a newer core, at its default */
    p->attr[0] = 12;
    accepted(p);
    p = new_linear(d, F32);
    p->attr_size = 12;
    p->attr[0] = 12;
    p->attr[8] = 1; /* and set */
    refused(p, "attribute byte 8 is newer");
    p = new_linear(d, F32);
    p->attr[7] = 1; /* flag bit 24 must be understood */
    refused(p, "flags 0x1000000");
    p = new_linear(d, F32);
    p->attr[4] = 1; /* flag bit 0 may be ignored */
    accepted(p);
    close_cpu(d);
}

static prog *new_rope(peri_dev *d, peri_rope_attr a) {
    prog *p = prog_new(d, 2);
    a.size = sizeof a;
    p->code = PERI_OP_ROPE;
    prog_in(p, DIMS(1, -PERI_SYM_T, 2, 32), values, 0);
    prog_weight(p, F32, DIMS(1, 1, 1, 8), values);
    prog_out_in_place(p, 0);
    prog_attr(p, &a, sizeof a);
    return p;
}

static void supports_refuses_operands_of_other_shapes(void **state) {
    (void)state;
    peri_dev *d = open_cpu(NULL, 1);
    prog *p = new_linear(d, F32);
    p->tensor[1].dim[3] = N / 2;
    refused(p, "operand 1: dimension 3 is 32, other operands say 64");
    p = new_linear(d, F32);
    p->tensor[2].dim[2] = -PERI_SYM_R;
    refused(p, "operand 4: dimension 2");
    p = new_linear(d, F32);
    p->tensor[2].dim[2] = 64; /* T is at most 64, but may be less */
    refused(p, "operand 4: dimension 2");
    p = new_linear(d, F32);
    p->tensor[0].dim[2] = -77;
    refused(p, "operand 0: dimension 2 is 0");
    p = new_linear(d, F32);
    p->tensor[0].stride[3] = 8;
    refused(p, "operand 0: stride 8 in dimension 3");
    p = new_linear(d, F32);
    p->tensor[0].stride[2] = 0;
    refused(p, "operand 0: stride 0 in dimension 2");
    p = new_linear(d, F32);
    p->tensor[1].stride[2] += 4;
    refused(p, "operand 1: a weight with gaps");
    p = new_linear(d, F32);
    p->tensor[0].dtype = PERI_CPU_F16;
    refused(p, "operand 0: type number 1, not F32");
    p = new_rope(d, (peri_rope_attr){.n_rot = 16});
    p->tensor[1].kind = PERI_T_ACT; /* factors: a vector, which devices may read before a step */
    refused(p, "operand 1: not a weight");
    p = new_linear(d, F32);
    p->operand[0] = PERI_NONE;
    refused(p, "operand 0 is missing");
    p = new_linear(d, F32);
    p->operand[0] = 1;
    refused(p, "operand 0:");
    p = new_linear(d, F32);
    p->operand[1] = 1000;
    refused(p, "operand 1: tensor 1000 of 3");
    p = new_linear(d, F32);
    p->n_in--;
    refused(p, "3 inputs and 1 outputs, 4 and 1 expected");
    close_cpu(d);
}

static prog *new_attn(peri_dev *d, peri_attn_attr a, int64_t heads, uint32_t pool) {
    prog *p = prog_new(d, 1);
    a.size = sizeof a;
    p->code = PERI_OP_ATTN;
    prog_in(p, DIMS(1, -PERI_SYM_T, heads, 8), values, 0);
    prog_pool(p, pool, DIMS(4, 16, 2, 8), values);
    prog_pool(p, F32, DIMS(4, 16, 2, 8), values);
    prog_in(p, DIMS(1, 1, 1, heads), NULL, 0);
    prog_out(p, F32, DIMS(1, -PERI_SYM_T, heads, 8), 0);
    prog_attr(p, &a, sizeof a);
    return p;
}

static prog *new_route(peri_dev *d, peri_route_attr a, int64_t used) {
    prog *p = prog_new(d, 1);
    a.size = sizeof a;
    p->code = PERI_OP_ROUTE;
    prog_in(p, DIMS(1, 1, -PERI_SYM_T, 12), values, 0);
    prog_in(p, DIMS(1, 1, 1, 12), NULL, 0);
    prog_out(p, PERI_CPU_I32, DIMS(1, 1, -PERI_SYM_T, used), 0);
    prog_out(p, F32, DIMS(1, 1, -PERI_SYM_T, used), 0);
    prog_attr(p, &a, sizeof a);
    return p;
}

static void supports_does_not_read_attributes_outside_the_program(void **state) {
    (void)state;
    struct block {
        peri_program head;
        peri_op op;
    } *p = calloc(1, sizeof *p);
    char why[88] = "";
    peri_bucket b = {.size = sizeof b};
    assert_non_null(p);
    p->head = (peri_program){.size = sizeof p->head,
                             .bytes = sizeof *p,
                             .n_ops = 1,
                             .op_size = sizeof p->op,
                             .ops = offsetof(struct block, op),
                             .attrs = sizeof *p};
    p->op = (peri_op){.code = PERI_OP_NORM,
                      .n_in = 3,
                      .n_out = 1,
                      .attr_size = sizeof(peri_norm_attr),
                      .attr = 1u << 30};
    assert_int_equal(cpu_check(&p->head, 0, &b, why), 0);
    assert_string_equal(why, "attributes outside the program");
    free(p);
}

static void supports_checks_the_range_of_attributes(void **state) {
    (void)state;
    peri_dev *d = open_cpu(NULL, 1);
    accepted(new_rope(d, (peri_rope_attr){.n_rot = 16, .base = 1e4f}));
    refused(new_rope(d, (peri_rope_attr){.n_rot = 17, .base = 1e4f}), "n_rot 17");
    refused(new_rope(d, (peri_rope_attr){.n_rot = 0, .base = 1e4f}), "n_rot 0");
    refused(new_rope(d, (peri_rope_attr){.n_rot = 16, .first = 17, .base = 1e4f}),
            "elements 17 to 33 of heads of 32");
    refused(new_rope(d, (peri_rope_attr){.n_rot = 32, .base = 1e4f}), "8 factors for n_rot 32");
    refused(new_rope(d, (peri_rope_attr){.n_rot = 16}), "base 0");
    refused(new_rope(d, (peri_rope_attr){.n_rot = 16, .base = 1e4f, .pairs = 2}), "pairs 2");
    accepted(new_attn(d, (peri_attn_attr){.scale = 1}, 6, F32));
    refused(new_attn(d, (peri_attn_attr){.scale = 1}, 5, F32), "5 heads over 2 key/value heads");
    refused(new_attn(d, (peri_attn_attr){.scale = 1}, 4, PERI_CPU_Q8_0),
            "operand 1: rows of 8, not whole blocks of type Q8_0");
    refused(new_attn(d, (peri_attn_attr){.scale = 1}, 4, PERI_CPU_Q5_0),
            "a cache of type Q5_0: nothing stores or reads it");
    refused(new_attn(d, (peri_attn_attr){.window = -1}, 4, F32), "window -1");
    refused(new_attn(d, (peri_attn_attr){.flags = 1u << 20}, 4, F32), "flags 0x100000");
    accepted(new_route(d, (peri_route_attr){.n_group = 4, .n_group_used = 2}, 6));
    refused(new_route(d, (peri_route_attr){.n_group = 4, .n_group_used = 2}, 7),
            "7 of 6 experts used");
    refused(new_route(d, (peri_route_attr){.n_group = 5, .n_group_used = 2}, 1),
            "12 experts in 5 groups");
    refused(new_route(d, (peri_route_attr){.n_group = 4, .n_group_used = 5}, 1),
            "5 of 4 groups used");
    refused(new_route(d, (peri_route_attr){.kind = 3}, 1), "route kind 3");
    close_cpu(d);
}

/* ---- devices ---- */

static const peri_plugin *plugin(void) {
    peri_error e = {0};
    const peri_plugin *p = perigee_plugin_v0(&prog_host, &e);
    assert_non_null(p);
    return p;
}

static void device_is_the_host_or_one_per_memory_node(void **state) {
    (void)state;
    peri_error e = {0};
    peri_dev_info info = {.size = sizeof info};
    prog_host_now = (prog_host_state){.n_node = 1, .n_worker = 1};
    assert_ok(plugin()->device(&prog_host, 0, &info, &e), e);
    assert_string_equal(info.name, "cpu");
    assert_string_equal(info.location, "host");
    assert_true(info.model[0] != 0);
    assert_int_equal(info.flags, PERI_DEV_HOST_MEM | PERI_DEV_BATCH_INVARIANT);
    assert_true(info.mem_total == (uint64_t)8 << 30);
    assert_int_equal(plugin()->device(&prog_host, 1, &info, &e), PERI_E_NO_DEVICE);
    prog_host_now.n_node = 2;
    assert_ok(plugin()->device(&prog_host, 1, &info, &e), e);
    assert_string_equal(info.name, "cpu:1");
    assert_string_equal(info.location, "numa:1");
    prog_host_now.isa = "reference";
    assert_ok(plugin()->device(&prog_host, 0, &info, &e), e);
    assert_string_equal(info.isa, "reference");
    assert_int_equal(prog_host_now.n_alloc, 0);
}

static void device_writes_no_more_than_an_older_core_has_room_for(void **state) {
    (void)state;
    peri_error e = {0};
    peri_dev_info info;
    prog_host_now = (prog_host_state){.n_node = 1, .n_worker = 1};
    memset(&info, 0x55, sizeof info);
    info.size = offsetof(peri_dev_info, mem_total);
    assert_ok(plugin()->device(&prog_host, 0, &info, &e), e);
    assert_true(info.mem_total == 0x5555555555555555u);
    assert_int_equal(info.size, offsetof(peri_dev_info, mem_total));
}

static void open_refuses_an_instruction_set_it_lacks(void **state) {
    (void)state;
    peri_error e = {0};
    peri_dev *d;
    prog_host_now = (prog_host_state){.isa = "sse9", .n_node = 1, .n_worker = 1};
    assert_int_equal(plugin()->open(&prog_host, 0, &d, &e), PERI_E_INVALID);
    assert_error(&e, PERI_E_INVALID, "cpu.isa: \"sse9\" is unknown; available: ");
    assert_error(&e, PERI_E_INVALID, "reference");
#if defined(__aarch64__)
    const char *foreign = "avx512amx", *why = "is a level of x86-64, this is aarch64; available: ";
#else
    const char *foreign = "neondot", *why = "is a level of aarch64, this is ";
#endif
    prog_host_now.isa = foreign;
    assert_int_equal(plugin()->open(&prog_host, 0, &d, &e), PERI_E_UNSUPPORTED);
    assert_error(&e, PERI_E_UNSUPPORTED, foreign);
    assert_error(&e, PERI_E_UNSUPPORTED, why);
    for (uint32_t i = 0; cpu_level_at(i); i++) {
        prog_host_now.isa = cpu_level_at(i)->name;
        /* The other processor's list of names has it. */
        if (strcmp(prog_host_now.isa, "scalar")) assert_non_null(cpu_level_arch(prog_host_now.isa));
        int32_t rc = plugin()->open(&prog_host, 0, &d, &e);
        assert_int_equal(rc, cpu_level_at(i)->is_available() ? PERI_OK : PERI_E_UNSUPPORTED);
        plugin()->close(d);
    }
    prog_host_now.isa = NULL;
    assert_int_equal(plugin()->open(&prog_host, 1, &d, &e), PERI_E_NO_DEVICE);
    assert_null(d);
    assert_int_equal(prog_host_now.n_live, 0);
}

/* Where the tiles cannot be used, open says so; where they are wished for, it says why not. */
static void open_tells_why_tiles_are_not_used(void **state) {
    (void)state;
    peri_error e = {0};
    peri_dev *d;
    const char *missing = amx_missing();
    prog_host_now = (prog_host_state){.n_node = 1, .n_worker = 1};
    assert_ok(plugin()->open(&prog_host, 0, &d, &e), e);
    plugin()->close(d);
    if (!missing && cpu_level_at(0)->is_available()) {
        assert_string_equal(prog_host_now.log, "");
        return;
    }
    if (strcmp(cpu_level_at(0)->name, "avx512amx")) skip(); /* not a processor of this kind */
    assert_int_equal(prog_host_now.log_level, missing ? 1 : 2);
    assert_memory_equal(prog_host_now.log, "cpu: avx512amx is not used: ", 28);
    assert_non_null(strstr(prog_host_now.log, " instead"));
    prog_host_now = (prog_host_state){.n_node = 1, .n_worker = 1, .isa = "avx512amx"};
    assert_int_equal(plugin()->open(&prog_host, 0, &d, &e), PERI_E_UNSUPPORTED);
    assert_error(&e, PERI_E_UNSUPPORTED, "\"avx512amx\" is not for this processor (");
    int level;
    assert_error(&e, PERI_E_UNSUPPORTED, cpu_level_at(0)->why_not(&level));
    prog_host_now = (prog_host_state){.n_node = 1, .n_worker = 1, .isa = "scalar"};
    assert_ok(plugin()->open(&prog_host, 0, &d, &e), e);
    plugin()->close(d);
    assert_string_equal(prog_host_now.log, ""); /* nobody asked for more */
}

static void plugin_refuses_another_abi_major(void **state) {
    (void)state;
    peri_error e = {0};
    peri_host other = prog_host;
    other.abi_major = 1;
    assert_null(perigee_plugin_v0(&other, &e));
    assert_error(&e, PERI_E_ABI, "speaks plugin ABI 0.3, the host 1.3");
}

static void memory_runs_out_cleanly_and_steady_state_takes_none(void **state) {
    (void)state;
    peri_error e = {0};
    peri_dev *d;
    prog_host_now = (prog_host_state){.n_node = 1, .n_worker = 2, .fail_at = 1};
    assert_int_equal(plugin()->open(&prog_host, 0, &d, &e), PERI_E_NOMEM);
    d = open_cpu("reference", 2);
    prog *p = new_linear(d, PERI_CPU_Q8_0);
    prog_host_now.fail_at = prog_host_now.n_alloc + 1;
    assert_int_equal(prog_run(p, &e), PERI_E_NOMEM);
    assert_error(&e, PERI_E_NOMEM, "bytes of scratch");
    prog_host_now.fail_at = 0;
    assert_ok(prog_run(p, &e), e);
    prog_host_now.fail_at = prog_host_now.n_alloc + 1;
    assert_ok(prog_run(p, &e), e); /* everything is there already */
    prog_free(p);
    close_cpu(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(supports_names_the_type_it_cannot_decode),
        cmocka_unit_test(supports_refuses_operations_and_attributes_it_does_not_know),
        cmocka_unit_test(supports_refuses_operands_of_other_shapes),
        cmocka_unit_test(supports_does_not_read_attributes_outside_the_program),
        cmocka_unit_test(supports_checks_the_range_of_attributes),
        cmocka_unit_test(device_is_the_host_or_one_per_memory_node),
        cmocka_unit_test(device_writes_no_more_than_an_older_core_has_room_for),
        cmocka_unit_test(open_refuses_an_instruction_set_it_lacks),
        cmocka_unit_test(open_tells_why_tiles_are_not_used),
        cmocka_unit_test(plugin_refuses_another_abi_major),
        cmocka_unit_test(memory_runs_out_cleanly_and_steady_state_takes_none),
    };
    return peri_run_tests(tests);
}
