/* SPDX-License-Identifier: MIT
 *
 * op_case.c - runs a case whole, with two workers, and in pieces. */
#include "op_case.h"

#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "kernels.h"

/* Gates for f32 activations and f32 sums (source: plugin-abi.md section 8), and for bf16 ones,
 * where the cases hold numbers that bf16 holds: the weights of attention are rounded, 1e-6
 * measured. */
static const double GATE = 1e-10, GATE_BF16 = 5e-6, WORST_ROW = 20;

peri_dev *open_cpu(const char *isa, uint32_t n_worker) {
    peri_dev *d = NULL;
    peri_error e = {0};
    prog_host_now = (prog_host_state){.isa = isa, .n_node = 1, .n_worker = n_worker};
    const peri_plugin *plugin = perigee_plugin_v0(&prog_host, &e);
    assert_non_null(plugin);
    assert_ok(plugin->open(&prog_host, 0, &d, &e), e);
    return d;
}

void close_cpu(peri_dev *d) {
    peri_error e = {0};
    perigee_plugin_v0(&prog_host, &e)->close(d);
    assert_int_equal(prog_host_now.n_live, 0);
}

double op_case_id(int32_t id) {
    float f;
    memcpy(&f, &id, sizeof f);
    return (double)f;
}

/* All outputs of tokens t0 .. t0 + n - 1, written at their place in out[k]. */
static void run_part(const op_case *c, peri_dev *d, int32_t t0, int32_t n, float *const out[3],
                     char numerics[28]) {
    peri_error e = {0};
    prog *p = prog_new(d, n);
    c->build(p, c->user, t0);
    peri_status status = prog_run(p, &e);
    if (status) fail_msg("%s, tokens %d+%d: %d: %s", c->name, (int)t0, (int)n, (int)status, e.text);
    for (uint32_t k = 0; k < p->n_out; k++) {
        assert_int_equal(prog_size(p, p->n_in + k), c->n_out[k] * n);
        prog_get(p, k, out[k] + c->n_out[k] * t0);
    }
    memcpy(numerics, p->numerics, 28);
    prog_free(p);
}

static void compare_bits(const op_case *c, const char *isa, const char *what, int32_t chunk,
                         float *const want[3], float *const got[3]) {
    for (int k = 0; k < 3; k++)
        for (int64_t i = 0; i < c->n_out[k] * c->n_tok; i++)
            if (memcmp(&want[k][i], &got[k][i], 4))
                fail_msg("%s, %s, %s %d: output %d, token %d, element %d: %a, whole run %a",
                         c->name, isa, what, (int)chunk, k, (int)(i / c->n_out[k]),
                         (int)(i % c->n_out[k]), (double)got[k][i], (double)want[k][i]);
}

static void compare_ulps(const op_case *c, const char *isa, uint32_t k, const float *got,
                         const double *want) {
    int64_t n = c->n_out[k] * c->n_tok;
    double *floor = NULL, gate = c->exact >> k & 1 ? 0 : c->ulps;
    if (c->at_least && strcmp(isa, "reference")) {
        floor = calloc((size_t)n, sizeof *floor);
        assert_non_null(floor);
        for (int32_t t = 0; t < c->n_tok; t++)
            c->at_least(c->user, t, floor + c->n_out[k] * t);
    }
    double ulps = prog_ulps(got, want, floor, n);
    free(floor);
    if (!(ulps <= gate))
        fail_msg("%s, %s: output %u off by %g ulp, allowed %g", c->name, isa, k, ulps, gate);
}

static void compare_formula(const op_case *c, const char *isa, double gate, float *const got[3]) {
    for (uint32_t k = 0; k < 3 && c->n_out[k]; k++) {
        double *want = calloc((size_t)(c->n_out[k] * c->n_tok), sizeof *want);
        assert_non_null(want);
        for (int32_t t = 0; t < c->n_tok; t++)
            c->expect(c->user, t, k, want + c->n_out[k] * t);
        if (c->exact >> k & 1 || c->ulps > 0) {
            compare_ulps(c, isa, k, got[k], want);
        } else {
            prog_error e = prog_nmse(got[k], want, c->n_tok, c->n_out[k]);
            if (!(e.all <= gate) || !(e.worst_row <= gate * WORST_ROW))
                fail_msg("%s, %s: output %u, NMSE %g, worst row %g", c->name, isa, k, e.all,
                         e.worst_row);
        }
        free(want);
    }
}

static void new_outputs(const op_case *c, float *out[3]) {
    for (int k = 0; k < 3; k++) {
        out[k] = calloc((size_t)(c->n_out[k] * c->n_tok) + 1, sizeof **out);
        assert_non_null(out[k]);
    }
}

static void check_level(const op_case *c, const char *isa) {
    static const int32_t chunks[] = {1, 2, 3, 7, 8, 16, 33};
    float *whole[3], *part[3];
    char numerics[28], ignored[28];
    new_outputs(c, whole);
    new_outputs(c, part);
    peri_dev *d = open_cpu(isa, 1);
    run_part(c, d, 0, c->n_tok, whole, numerics);
    if (!strcmp(numerics, "act=f32 acc=f32"))
        compare_formula(c, isa, GATE, whole);
    else if (!strcmp(numerics, "act=bf16 acc=f32"))
        compare_formula(c, isa, GATE_BF16, whole);
    else
        assert_string_not_equal(isa, "reference");
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        for (int32_t t = 0; t < c->n_tok; t += chunks[i])
            run_part(c, d, t, c->n_tok - t < chunks[i] ? c->n_tok - t : chunks[i], part, ignored);
        compare_bits(c, isa, "runs of", chunks[i], whole, part);
    }
    close_cpu(d);
    d = open_cpu(isa, 2);
    run_part(c, d, 0, c->n_tok, part, ignored);
    compare_bits(c, isa, "workers", 2, whole, part);
    close_cpu(d);
    for (int k = 0; k < 3; k++) {
        free(whole[k]);
        free(part[k]);
    }
}

void check_case(const op_case *c) {
    check_level(c, "reference");
    for (uint32_t i = 0; cpu_level_at(i); i++)
        if (cpu_level_at(i)->is_available()) check_level(c, cpu_level_at(i)->name);
}
