/* SPDX-License-Identifier: MIT
 *
 * kit_bench.c - how fast the operations are: --bench.
 *
 * A row is an operation and a type on a shape of a usual model.  With one token, and for
 * operations without products, what counts is memory: the bytes that have to move, each once, per
 * second, and as a fraction of the ceiling.  With many tokens it is multiplications per second.
 *
 * The ceiling is measured in the same run.  Where the device computes in host memory: the threads
 * that the plugin gets read BENCH_REGION_BYTES.  Else: the fastest of copying within its memory, of
 * ADD and of LINEAR on F32, so there a fraction says how an operation compares with the best of
 * those.
 *
 * Time: what is left is shared by the rows that are left; a row is repeated in rounds for as long
 * as its share lasts, and the best round counts, because disturbance only ever slows.  Rows that
 * are not reached in time are named. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "check/bench.h"
#include "check/report.h"
#include "model/dtype.h"

#include "base/compiler.h"

enum { MANY = 64, ROWS = 2048, ROUNDS_MIN = 3, ROUNDS_MAX = 50, RUNS_MAX = 1000 };
static const double ROUND_S = 4e-3, SHARE_MAX_S = 0.4, MEGA = 1e6, GIGA = 1e9;

typedef struct bench_row {
    kit_shape shape;
    bool has_one; /* with one token too */
} bench_row;

#define ATTR(type, ...) (&(const type){.size = sizeof(type), __VA_ARGS__}), sizeof(type)
#define NO_ATTR         NULL, 0
#define ATTN            "a1thk pbcgk pbcgv v111h? o1thv"

static const bench_row rows[] = {
    {{PERI_OP_LINEAR, "a11tn w11mn v111m? v1111? o11tm", "n4096 m2048",
      ATTR(peri_linear_attr, .flags = 0), MANY, 0, false},
     true},
    {{PERI_OP_ATTN, ATTN, "h32 g8 k128 v128 P16383", ATTR(peri_attn_attr, .scale = 0.09f), 1, 64,
      false},
     false},
    {{PERI_OP_ATTN, ATTN, "h16 g4 k128 v128 P960", ATTR(peri_attn_attr, .scale = 0.09f), MANY, 64,
      false},
     false},
    {{PERI_OP_KV_APPEND, "a1tgk a1tgv pbcgk pbcgv", "g8 k128 v128", NO_ATTR, ROWS, 64, false},
     false},
    {{PERI_OP_NORM, "a11tn v111n? v111n? o11tn", "n4096",
      ATTR(peri_norm_attr, .kind = PERI_NORM_RMS, .eps = 1e-6f), ROWS, 0, false},
     false},
    {{PERI_OP_ROPE, "a1thd v111f? o1thd", "h32 d128 f64",
      ATTR(peri_rope_attr, .pairs = PERI_ROPE_NEOX, .n_rot = 128, .base = 1e4f, .freq_scale = 1,
           .magnitude = 1),
      ROWS, 0, false},
     false},
    {{PERI_OP_ACT, "a11tn o11tn", "n4096", ATTR(peri_act_attr, .act = PERI_ACT_GELU), ROWS, 0,
      false},
     false},
    {{PERI_OP_GLU, "a11tn a11tn o11tn", "n4096", ATTR(peri_act_attr, .act = PERI_ACT_SILU), ROWS, 0,
      false},
     false},
    {{PERI_OP_ADD, "a11tn a11tn o11tn", "n4096", NO_ATTR, ROWS, 0, false}, false},
    {{PERI_OP_MUL, "a11tn a11tn o11tn", "n4096", NO_ATTR, ROWS, 0, false}, false},
    {{PERI_OP_SCALE, "a11tn o11tn", "n4096", ATTR(peri_scale_attr, .scale = 0.5f), ROWS, 0, false},
     false},
    {{PERI_OP_ROWS, "a11tn o11zn", "n4096", NO_ATTR, ROWS, 0, false}, false},
    {{PERI_OP_ADD_NORM, "a11tn a11tn v111n? v111n? o11tn o11tn", "n4096",
      ATTR(peri_norm_attr, .kind = PERI_NORM_RMS, .eps = 1e-6f), ROWS, 0, false},
     false},
    {{PERI_OP_ROUTE, "a11te v111e? n11tk o11tk", "e128 k8",
      ATTR(peri_route_attr, .kind = PERI_ROUTE_SOFTMAX, .renorm = 1, .weight_scale = 1), ROWS, 0,
      false},
     false},
    {{PERI_OP_EXPERT_SUM, "a1tkn a11tk o11tn", "k8 n2048", NO_ATTR, 512, 0, false}, false},
    {{PERI_OP_LINEAR_EXPERTS, "a11tn w1emn i11tk v11em? v111e? o1tkm", "n2048 m1024 e8 k4", NO_ATTR,
      MANY, 0, false},
     true},
    {{PERI_OP_LINEAR_QKV,
      "a11tn w11xn w11yn w11yn v111x? v111y? v111y? v1111? v1111? v1111? o11tx o11ty o11ty",
      "n4096 x2048 y512", NO_ATTR, MANY, 0, false},
     true},
    {{PERI_OP_GATE_UP_GLU, "a11tn w11mn w11mn o11tm", "n4096 m1024",
      ATTR(peri_act_attr, .act = PERI_ACT_SILU), MANY, 0, false},
     true},
    {{PERI_OP_EMBED, "w11vn o11tn", "v16384 n4096", ATTR(peri_embed_attr, .scale = 1), 512, 0,
      false},
     false},
};
enum { N_ROW = sizeof rows / sizeof rows[0] };

typedef struct bench {
    kit_plugin *p;
    unsigned char *region;
    uint32_t filled; /* the region's type; PERI_NONE: none yet */
    double end, ceiling;
    uint32_t n_left; /* pairs of row and type that are left */
    uint32_t n_tried;
} bench;

/* ---- timing -----------------------------------------------------------------------------------
 */

/* The best seconds of one run, or negative with *e; rounds until the share is used up. */
static double best_run(bench_case *c, double share, int *n_round, peri_error *e) {
    double start = bench_now(), first = bench_case_run(c, 1, e), best = -1;
    if (first < 0) return first;
    first = bench_case_run(c, 1, e); /* whatever the first had to prepare */
    if (first < 0) return first;
    double wanted = first > 0 ? ROUND_S / first : RUNS_MAX;
    uint32_t n = wanted < 1 ? 1 : wanted > RUNS_MAX ? RUNS_MAX : (uint32_t)wanted;
    *n_round = 0;
    while (*n_round < ROUNDS_MAX && (*n_round < ROUNDS_MIN || bench_now() - start < share)) {
        if (*n_round > 0 && bench_now() - start > 10 * share) break; /* slow: one will do */
        double s = bench_case_run(c, n, e);
        if (s < 0) return s;
        if (best < 0 || s / n < best) best = s / n;
        ++*n_round;
    }
    return best;
}

static double share_of(const bench *b) {
    double share = (b->end - bench_now()) / (b->n_left + 1);
    return share > SHARE_MAX_S ? SHARE_MAX_S : share;
}

/* One line of the report; false when the operation failed. */
static bool measure(bench *b, bench_case *c, const bench_row *row, uint32_t dtype) {
    peri_error e = {0};
    int n_round = 0;
    kit_case named = {.shape = &row->shape, .dtype = (uint16_t)dtype};
    snprintf(named.name, sizeof named.name, "%s", bench_case_name(c));
    kit_place("run_op, for measuring", &named);
    double s = best_run(c, share_of(b), &n_round, &e);
    e.text[sizeof e.text - 1] = 0;
    if (s < 0) {
        kit_find(&named, "supports said yes and run_op failed: %s",
                 e.text[0] ? e.text : "no reason given");
        return false;
    }
    if (s <= 0) s = 1e-9;
    double bytes = bench_case_bytes(c), macs = bench_case_macs(c), speed = bytes / s / GIGA;
    json_t *line = json_pack("{s:s,s:s,s:s,s:f,s:f,s:i}", "op", peri_op_name(row->shape.code),
                             "type", kit_type_name(&named), "shape", named.name, "us", s * MEGA,
                             "bytes", bytes, "rounds", n_round);
    bool is_memory = macs == 0 || bench_case_tokens(c) == 1;
    json_object_set_new(line, "gbps", json_real(speed));
    if (macs > 0) json_object_set_new(line, "gmacs", json_real(macs / s / GIGA));
    if (is_memory && b->ceiling > 0)
        json_object_set_new(line, "fraction", json_real(speed / b->ceiling));
    kit_send(json_pack("{s:o}", "speed", line));
    kit_count();
    return true;
}

/* ---- rows -------------------------------------------------------------------------------------
 */

static unsigned char *region_for(bench *b, uint32_t dtype) {
    if (b->filled != dtype) bench_fill(dtype, b->region);
    b->filled = dtype;
    return b->region;
}

/* A case that the device takes; NULL when it does not, or after a finding. */
static bench_case *taken(bench *b, const bench_row *row, uint32_t dtype) {
    peri_support answer;
    peri_error e = {0};
    kit_case named = {.shape = &row->shape, .dtype = (uint16_t)dtype};
    bool has_weight = strchr(row->shape.operands, 'w') != NULL;
    kit_place("memory, for measuring", &named);
    bench_case *c =
        bench_case_new(b->p, &row->shape, dtype, has_weight ? region_for(b, dtype) : b->region, &e);
    if (!c) {
        kit_note("%s %s: not measured: %s", peri_op_name(row->shape.code), kit_type_name(&named),
                 e.text);
        return NULL;
    }
    kit_place("supports, for measuring", &named);
    if (bench_case_ask(c, &answer, &e) == PERI_OK && answer.yes) return c;
    bench_case_free(c);
    return NULL;
}

static void measure_row(bench *b, const bench_row *row, uint32_t dtype) {
    bench_case *c = taken(b, row, dtype);
    bool is_good = c != NULL;
    if (is_good && row->has_one) {
        bench_case_set_tokens(c, 1);
        is_good = measure(b, c, row, dtype);
        bench_case_set_tokens(c, row->shape.n_tok);
    }
    if (is_good) measure(b, c, row, dtype);
    bench_case_free(c);
}

/* Call fn for every wanted row and type.  Rows with a type follow one another by type, because
 * filling the region takes time; only LINEAR comes first as a whole. */
static void each_row(bench *b, void (*fn)(bench *b, const bench_row *row, uint32_t dtype)) {
    int dtype;
    for (size_t i = 0; i < N_ROW; i++) {
        const kit_shape *s = &rows[i].shape;
        if (strchr(s->operands, 'w') && s->code != PERI_OP_LINEAR) continue;
        for (size_t k = 0; (dtype = kit_dtype_at(s, k)) >= 0; k++)
            if (kit_is_wanted(b->p, s, (uint32_t)dtype)) fn(b, &rows[i], (uint32_t)dtype);
    }
    for (size_t k = 0; (dtype = kit_dtype_at(&rows[0].shape, k)) >= 0; k++)
        for (size_t i = 0; i < N_ROW; i++) {
            const kit_shape *s = &rows[i].shape;
            if (!strchr(s->operands, 'w') || s->code == PERI_OP_LINEAR) continue;
            if (kit_is_wanted(b->p, s, (uint32_t)dtype)) fn(b, &rows[i], (uint32_t)dtype);
        }
}

static void count_row(bench *b, const bench_row *row, uint32_t dtype) {
    (void)row, (void)dtype;
    b->n_left++;
}

static void try_row(bench *b, const bench_row *row, uint32_t dtype) {
    kit_case named = {.shape = &row->shape, .dtype = (uint16_t)dtype};
    b->n_left--;
    if (bench_now() < b->end || b->n_tried == 0) { /* the first in any case */
        b->n_tried++;
        measure_row(b, row, dtype);
        return;
    }
    kit_send(json_pack("{s:{s:s,s:s}}", "unmeasured", "op", peri_op_name(row->shape.code), "type",
                       kit_type_name(&named)));
}

/* ---- the ceiling ------------------------------------------------------------------------------
 */

enum { PARTS = 256, CEILING_ROUNDS = 5 };
typedef uint64_t word2 __attribute__((vector_size(16)));
static volatile uint64_t sink; /* keeps the sums */

static void read_part(void *arg, uint32_t i, uint32_t worker) {
    const word2 *v = (const word2 *)(const void *)((unsigned char *)arg +
                                                   (size_t)i * (BENCH_REGION_BYTES / PARTS));
    word2 s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    (void)worker;
    for (size_t k = 0; k < BENCH_REGION_BYTES / PARTS / sizeof *v; k += 4) {
        __builtin_prefetch((const unsigned char *)(v + k) + 4096);
        s0 += v[k];
        s1 += v[k + 1];
        s2 += v[k + 2];
        s3 += v[k + 3];
    }
    s0 += s1 + s2 + s3;
    sink = s0[0] + s0[1];
}

static double host_speed(bench *b) {
    double best = 0;
    for (int i = 0; i < CEILING_ROUNDS; i++) {
        double start = bench_now();
        kit_host.parallel(b->p->dev, PARTS, read_part, b->region);
        double speed = BENCH_REGION_BYTES / (bench_now() - start) / GIGA;
        if (speed > best) best = speed;
    }
    return best;
}

/* Bytes per second of one operation of the table, F32; with one token where it has that. */
static double op_speed(bench *b, uint16_t code, double *copy) {
    double speed = 0;
    for (size_t i = 0; i < N_ROW; i++) {
        peri_error e = {0};
        int n_round;
        if (rows[i].shape.code != code) continue;
        bench_case *c = taken(b, &rows[i], PERI_DT_F32);
        if (!c) return 0;
        if (rows[i].has_one) bench_case_set_tokens(c, 1);
        double s = best_run(c, SHARE_MAX_S, &n_round, &e);
        if (s > 0) speed = bench_case_bytes(c) / s / GIGA;
        if (copy) *copy = bench_copy_speed(c) / GIGA;
        bench_case_free(c);
    }
    return speed;
}

static void find_ceiling(bench *b) {
    const char *how = "read by the plugin's threads";
    kit_place("the ceiling", NULL);
    if (b->p->info.flags & PERI_DEV_HOST_MEM) {
        b->ceiling = host_speed(b);
    } else {
        double copy = 0, add = op_speed(b, PERI_OP_ADD, &copy);
        double linear = op_speed(b, PERI_OP_LINEAR, NULL);
        b->ceiling = copy > add ? copy : add;
        how = copy > add ? "copied within the device's memory" : "moved by ADD";
        if (linear > b->ceiling) how = "moved by LINEAR F32 with one token";
        if (linear > b->ceiling) b->ceiling = linear;
    }
    if (b->ceiling <= 0)
        kit_note("no ceiling: the device does neither ADD nor LINEAR on F32, nor copies");
    kit_send(json_pack("{s:{s:f,s:s,s:i,s:f}}", "ceiling", "gbps", b->ceiling, "how", how,
                       "threads", (int)kit_host_now.n_worker, "told_gbps",
                       (double)b->p->info.mem_gbps));
}

void kit_stage_bench(kit_plugin *p) {
    bench b = {.p = p, .filled = PERI_NONE};
    if (!kit_open(p)) return;
    b.region = peri_alloc_large(BENCH_REGION_BYTES);
    if (b.region) {
        bench_fill(PERI_DT_F32, b.region);
        b.filled = PERI_DT_F32;
        each_row(&b, count_row);
        find_ceiling(&b);
        b.end = bench_now() + p->seconds;
        each_row(&b, try_row);
    } else {
        kit_find(NULL, "the kit is out of memory: measuring needs %d MiB",
                 BENCH_REGION_BYTES >> 20);
    }
    kit_close(p);
    peri_free(b.region);
}
