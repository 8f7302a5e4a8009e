/* SPDX-License-Identifier: MIT
 *
 * dispatch.c - the instruction-set levels of this build and the ops they take.
 *
 * All levels give the same bits (linear.h, vec.c, attn_fast.c), so the choice is one of speed
 * alone.  Sources of a level are compiled for its instruction set; nothing of them runs before
 * is_available has asked the processor and, for the wide registers, the operating system. The tiles
 * of AMX are the operating system's to refuse (amx.c), and the level on them, like the one with
 * products of bf16, has to prove itself once per process against the one below
 * (self_test.c): what a machine computes there is not taken on trust.  Whoever names another level
 * never touches them.  On aarch64 the kernel says what there is, which emulators answer too. */
#include <string.h>

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
static const cpu_level scalar = {"scalar", always, NULL, supports, run_scalar, NULL};

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

/* Products of bf16, tested once per process.  The set is avx512vnni apart from these. */
static cpu_isa bf16_set = {.name = "avx512bf16"};
static pthread_once_t bf16_once = PTHREAD_ONCE_INIT;
static char bf16_why[128]; /* the self-test failed */
static int bf16_works;

static void try_bf16(void) {
    char where[96];
    if (!has_avx512vnni() || !__builtin_cpu_supports("avx512bf16")) return;
    bf16_set = cpu_isa_avx512vnni;
    bf16_set.name = "avx512bf16";
    bf16_set.attn = &attn_avx512bf16;
    bf16_set.bf16 = &bf16_avx512bf16;
    bf16_works = attn_self_test(&attn_avx512bf16, &attn_avx512, where) &&
                 bf16_self_test(&bf16_set, &cpu_isa_avx512vnni, where);
    if (!bf16_works) snprintf(bf16_why, sizeof bf16_why, "self-test: %s", where);
}
static int has_avx512bf16(void) {
    pthread_once(&bf16_once, try_bf16);
    return bf16_works;
}
static const char *why_not_avx512bf16(int *log_level) {
    *log_level = 2;
    return !has_avx512bf16() && bf16_why[0] ? bf16_why : NULL;
}

/* The tiles are asked for and tested once per process.  Products of BF16 weights that they do not
 * serve are avx512bf16's where that works.  Attention that they do not serve is avx512's: on
 * processors with tiles a VDPBF16PS of 32 products takes two cycles, in which FMAs of f32 make 64
 * (0.11 and 0.24 TFLOP/s a core). */
static cpu_isa amx_set = {.name = "avx512amx"};
static char amx_note[160]; /* why BF16 weights are not on them */
static int amx_note_level;
static pthread_once_t amx_once = PTHREAD_ONCE_INIT;
static char amx_why[128];
static int amx_failed;

static void not_on_tiles(int log_level, const char *what, const char *why) {
    amx_note_level = log_level;
    snprintf(amx_note, sizeof amx_note, "products of bf16 are not computed on tiles: %s%s", what,
             why);
}
static void try_amx_bf16(void) {
    char where[96];
    const char *missing = amx_bf16_missing();
    if (!has_avx512bf16()) {
        not_on_tiles(1, "", "the level avx512bf16 is not available");
        return;
    }
    amx_set.bf16 = &bf16_avx512amx;
    amx_set.attn = &attn_avx512amx;
    if (!missing && bf16_self_test(&amx_set, &cpu_isa_avx512vnni, where) &&
        attn_self_test(&attn_avx512amx, &attn_avx512, where))
        return;
    amx_set.bf16 = bf16_set.bf16;
    amx_set.attn = &attn_avx512;
    if (missing)
        not_on_tiles(1, "", missing);
    else
        not_on_tiles(2, "self-test: ", where);
}

static void try_amx(void) {
    char where[96];
    const char *why = has_avx512vnni() ? amx_missing() : "the processor has no AVX-512 with VNNI";
    amx_set = cpu_isa_avx512amx;
    if (why)
        snprintf(amx_why, sizeof amx_why, "%s", why);
    else if (!linear_self_test(&cpu_isa_avx512amx, &cpu_isa_avx512vnni, where)) {
        amx_failed = 1;
        snprintf(amx_why, sizeof amx_why, "self-test: %s", where);
    } else
        try_amx_bf16();
}
static int has_avx512amx(void) {
    pthread_once(&amx_once, try_amx);
    return !amx_why[0];
}
static const char *why_not_avx512amx(int *log_level) {
    *log_level = amx_failed ? 2 : 1;
    return has_avx512amx() ? NULL : amx_why;
}

static const char *note_of_avx512amx(int *log_level) {
    *log_level = amx_note_level;
    return has_avx512amx() && amx_note[0] ? amx_note : NULL;
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
static int32_t run_avx512bf16(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &bf16_set, j, e);
}
static int32_t run_avx512amx(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &amx_set, j, e);
}
static const cpu_level avx2 = {"avx2", has_avx2, NULL, supports, run_avx2, NULL};
static const cpu_level avx2vnni = {"avx2vnni", has_avx2vnni, NULL, supports, run_avx2vnni, NULL};
static const cpu_level avx512 = {"avx512", has_avx512, NULL, supports, run_avx512, NULL};
static const cpu_level avx512vnni = {"avx512vnni", has_avx512vnni, NULL,
                                     supports,     run_avx512vnni, NULL};
static const cpu_level avx512bf16 = {"avx512bf16", has_avx512bf16, why_not_avx512bf16,
                                     supports,     run_avx512bf16, NULL};
static const cpu_level avx512amx = {"avx512amx", has_avx512amx, why_not_avx512amx,
                                    supports,    run_avx512amx, note_of_avx512amx};
static const cpu_level *const levels[] = {&avx512amx, &avx512bf16, &avx512vnni, &avx512,
                                          &avx2vnni,  &avx2,       &scalar};

#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

static int has_neon(void) {
    return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
}
static int has_neondot(void) {
    return has_neon() && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
static int has_neoni8mm(void) {
    return has_neondot() && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
}

static int32_t run_neon(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_neon, j, e);
}
static int32_t run_neondot(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_neondot, j, e);
}
static int32_t run_neoni8mm(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return run(d, &cpu_isa_neoni8mm, j, e);
}
static const cpu_level neon = {"neon", has_neon, NULL, supports, run_neon, NULL};
static const cpu_level neondot = {"neondot", has_neondot, NULL, supports, run_neondot, NULL};
static const cpu_level neoni8mm = {"neoni8mm", has_neoni8mm, NULL, supports, run_neoni8mm, NULL};
static const cpu_level *const levels[] = {&neoni8mm, &neondot, &neon, &scalar};

#else

static const cpu_level *const levels[] = {&scalar};

#endif

const cpu_level *cpu_level_at(uint32_t index) {
    return index < sizeof levels / sizeof *levels ? levels[index] : NULL;
}

const cpu_isa *cpu_isa_of(const cpu_level *level) {
    static const cpu_isa *const sets[] = {
        &cpu_isa_scalar,
#if defined(__x86_64__)
        &cpu_isa_avx2,
        &cpu_isa_avx2vnni,
        &cpu_isa_avx512,
        &cpu_isa_avx512vnni,
        &bf16_set,
        &amx_set,
#elif defined(__aarch64__)
        &cpu_isa_neon,
        &cpu_isa_neondot,
        &cpu_isa_neoni8mm,
#endif
    };
    if (!level->is_available()) return NULL;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (!strcmp(sets[i]->name, level->name)) return sets[i];
    return NULL;
}

const char *cpu_level_arch(const char *name) {
    static const char *const x86[] = {"avx512amx", "avx512bf16", "avx512vnni",
                                      "avx512",    "avx2vnni",   "avx2"};
    static const char *const arm[] = {"neoni8mm", "neondot", "neon"};
    for (size_t i = 0; i < sizeof x86 / sizeof *x86; i++)
        if (!strcmp(name, x86[i])) return "x86-64";
    for (size_t i = 0; i < sizeof arm / sizeof *arm; i++)
        if (!strcmp(name, arm[i])) return "aarch64";
    return NULL;
}
