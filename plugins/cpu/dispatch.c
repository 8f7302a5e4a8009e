/* SPDX-License-Identifier: MIT
 *
 * dispatch.c - the instruction-set levels of this build and the ops they take.
 *
 * All levels give the same bits (linear.h, vec.c, attn_fast.c), so the choice is one of speed
 * alone.  Sources of a level are compiled for its instruction set; nothing of them runs before
 * is_available has asked the processor and, for the wide registers, the operating system. The tiles
 * of AMX are the operating system's to refuse (amx.c), and the level on them has to prove itself
 * once per process against the one below (self_test.c): what a machine computes there is not taken
 * on trust.  Whoever names another level never touches them. */
#include "amx.h"
#include "fast.h"

static int supports(const peri_program *p, const peri_op *op, char numerics[28]) {
    switch (op->code) {
    case PERI_OP_LINEAR:
    case PERI_OP_LINEAR_QKV:
    case PERI_OP_LINEAR_EXPERTS:
        return linear_supports(p, op, numerics);
    case PERI_OP_GATE_UP_GLU:
        return vec_has_act(p, op) ? linear_supports(p, op, numerics) : 0;
    }
    return vec_supports(p, op, numerics) || attn_supports(p, op, numerics);
}

static int32_t run(cpu_dev *d, const cpu_isa *isa, const cpu_job *j, peri_error *e) {
    switch (j->op->code) {
    case PERI_OP_LINEAR:
    case PERI_OP_LINEAR_QKV:
    case PERI_OP_LINEAR_EXPERTS:
    case PERI_OP_GATE_UP_GLU:
        return linear_run(d, isa, j, e);
    case PERI_OP_ATTN:
    case PERI_OP_KV_APPEND:
        return attn_run(d, isa, j, e);
    }
    return vec_run(d, isa, j, e);
}

static int always(void) {
    return 1;
}
static int32_t run_scalar(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_scalar, j, e);
}
static const cpu_level scalar = {"scalar", always, NULL, supports, run_scalar};

#if defined(__x86_64__)
#include <cpuid.h>
#include <pthread.h>
#include <stdio.h>

/* __builtin_cpu_supports asks CPUID and XGETBV. */
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
/* CPUID leaf 7, subleaf 1: EAX bit 4.  Asked by hand: not all compilers know the name. */
static int has_avx2vnni(void) {
    unsigned a = 0, b, c, d;
    return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
static int has_avx512vnni(void) {
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

/* The tiles are asked for and tested once per process. */
static pthread_once_t amx_once = PTHREAD_ONCE_INIT;
static char amx_why[128];
static int amx_failed;

static void try_amx(void) {
    char where[96];
    const char *why = has_avx512vnni() ? amx_missing() : "the processor has no AVX-512 with VNNI";
    if (why)
        snprintf(amx_why, sizeof amx_why, "%s", why);
    else if (!linear_self_test(&cpu_isa_avx512amx, &cpu_isa_avx512vnni, where)) {
        amx_failed = 1;
        snprintf(amx_why, sizeof amx_why, "self-test: %s", where);
    }
}
static int has_avx512amx(void) {
    pthread_once(&amx_once, try_amx);
    return !amx_why[0];
}
static const char *why_not_avx512amx(int *log_level) {
    *log_level = amx_failed ? 2 : 1;
    return has_avx512amx() ? NULL : amx_why;
}

static int32_t run_avx2(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_avx2, j, e);
}
static int32_t run_avx512(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_avx512, j, e);
}
static int32_t run_avx2vnni(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_avx2vnni, j, e);
}
static int32_t run_avx512vnni(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_avx512vnni, j, e);
}
static int32_t run_avx512amx(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_avx512amx, j, e);
}
static const cpu_level avx2 = {"avx2", has_avx2, NULL, supports, run_avx2};
static const cpu_level avx2vnni = {"avx2vnni", has_avx2vnni, NULL, supports, run_avx2vnni};
static const cpu_level avx512 = {"avx512", has_avx512, NULL, supports, run_avx512};
static const cpu_level avx512vnni = {"avx512vnni", has_avx512vnni, NULL, supports, run_avx512vnni};
static const cpu_level avx512amx = {"avx512amx", has_avx512amx, why_not_avx512amx, supports,
                                    run_avx512amx};
static const cpu_level *const levels[] = {&avx512amx, &avx512vnni, &avx512,
                                          &avx2vnni,  &avx2,       &scalar};

#else

static const cpu_level *const levels[] = {&scalar};

#endif

const cpu_level *cpu_level_at(uint32_t index) {
    return index < sizeof levels / sizeof *levels ? levels[index] : NULL;
}
