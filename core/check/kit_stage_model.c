/* SPDX-License-Identifier: MIT
 *
 * kit_stage_model.c - a small random model from end to end: two sequences are prefilled together
 * and then decoded for some steps and rewound, on the device through the core's own plan and arena,
 * and in f64 by the kit's formulas.  Their logits are compared row by row.
 *
 * What this finds and single operations do not: views, reuse of the arena, keys of earlier steps,
 * fused operations beside their pieces, numerics that add up; and, where the device compiles what
 * runs together: that it gives the bits of its operations one at a time, on whatever memory it is
 * bound to, and leaves nothing behind when it is freed.  With integer activations a
 * last-place difference may round to the next integer, so the gate there is wider.
 *
 * The same once more with experts in the last layer, chosen by groups, whose sum and the norm
 * behind it are one operation.  Where two of them are nearly equal, a last-place difference chooses
 * another: such rows are not compared with the reference. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "check/kit.h"
#include "model/dtype.h"
#include "run/plan.h"

#include "base/compiler.h"

enum {
    N_LAYER = 2,
    N_VOCAB = 96,
    D_MODEL = 64,
    N_HEAD = 4,
    N_KV = 2,
    D_HEAD = 16,
    D_FF = 96,
    N_EXPERT = 8,
    N_USED = 2,
    D_EXPERT = 32,
    BLOCK = 16,
    N_BLOCK = 7,
    N_SEQ = 2,
    N_DECODE = 6,
    N_REWOUND = 3,
    WEIGHT_MAX = 32,
    POOL_MAX = 2 * N_LAYER,
    N_PROMPT = 19 /* tokens of the first sequence; the second has 5 fewer */
};

/* By the roughest rounding in between: none, a cache of F16 (a last-place difference may round to
 * the next half; measured 1e-9), integer or half activations. */
static const double GATE_F32 = 1e-10, GATE_F16 = 1e-7, GATE_ROUGH = 1e-3;

/* Of the choice of experts, below which a row is not compared: some numerics of other operations
 * are not copied (kit_gate.c), and what their gates allow may move a rank by some 0.01, as
 * reckoned. */
static const double MARGIN = 0.05;

typedef struct weight {
    uint32_t dtype;
    int64_t dim[4];
    unsigned char *bits;
    double *v;
} weight;

/* What a step runs on.  There are two: what a device compiled may be bound to other memory than
 * the last time. */
typedef struct seat {
    unsigned char *arena, *pool;
    kit_buffer arena_buf, pool_buf;
    peri_buf *pool_at[1];
} seat;

typedef struct world {
    kit_plugin *p;
    peri_graph g;
    peri_plan *plan;
    uint32_t logits, dtype, kv_dtype;
    bool has_experts;
    double margin[KIT_TOKENS]; /* of this step's tokens */
    int n_row, n_compared;
    weight w[WEIGHT_MAX];
    kit_buffer weight_buf[WEIGHT_MAX];
    peri_buf *weight_at[WEIGHT_MAX];
    uint32_t n_weight;
    uint32_t weight_tensor[WEIGHT_MAX];
    double **value; /* [n_tensor], by storage root */
    seat seat[2];   /* the second for what is compiled */
    bool is_out_of_memory;
} world;

static const char *kind_of(const world *w) {
    return w->has_experts ? " with experts" : "";
}

/* ---- building
 * -------------------------------------------------------------------------------------- */

/* A weight of random numbers of size `gain` / sqrt(n), or a vector about 1; of blocks, as they
 * come. */
static uint32_t add_weights(world *w, uint32_t dtype, int64_t n_matrix, int64_t m, int64_t n,
                            float gain) {
    weight *x = &w->w[w->n_weight];
    const peri_dtype_info *t = peri_dtype_get(dtype);
    int64_t n_number = n_matrix * m * n, n_block = n_number / t->block_elements;
    *x = (weight){.dtype = dtype, .dim = {1, n_matrix, m, n}};
    x->bits = peri_alloc_aligned((size_t)n_block * t->block_bytes, 64);
    x->v = peri_alloc_array((size_t)n_number, sizeof *x->v);
    if (!x->bits || !x->v) {
        w->is_out_of_memory = true;
        return 0;
    }
    kit_random_blocks(dtype, x->bits, n_block, 77 + w->n_weight);
    for (int64_t i = 0; i < n_number && dtype == PERI_DT_F32; i++) {
        float f;
        memcpy(&f, x->bits + i * 4, 4);
        f = m == 1 ? 1 + f / 4 : gain * f / sqrtf((float)n);
        memcpy(x->bits + i * 4, &f, 4);
    }
    kit_decode(dtype, x->bits, n_number, x->v);
    w->weight_tensor[w->n_weight] = peri_graph_weight(&w->g, w->n_weight, dtype, x->dim);
    return w->weight_tensor[w->n_weight++];
}
static uint32_t add_weight(world *w, uint32_t dtype, int64_t m, int64_t n) {
    return add_weights(w, dtype, 1, m, n, 1);
}

static uint32_t act(world *w, int64_t rows, int64_t n) {
    return peri_graph_act(&w->g, PERI_DT_F32, (const int64_t[]){rows, n}, 2);
}

static uint32_t heads(world *w, uint32_t x, int64_t n_head) {
    return peri_graph_view(&w->g, x, (const int64_t[]){-PERI_SYM_T, n_head, D_HEAD}, 3, 0);
}

static void add(world *w, uint16_t code, const uint32_t *x, int n_in, int n_out, const void *attr) {
    uint32_t size = 0;
    if (attr) memcpy(&size, attr, sizeof size);
    peri_graph_add(&w->g, code, x, n_in, n_out, attr, size);
}

static uint32_t linear(world *w, uint32_t x, int64_t rows, int64_t m, int64_t n) {
    static const peri_linear_attr attr = {.size = sizeof attr};
    uint32_t y = act(w, rows, m), weights = add_weight(w, w->dtype, m, n);
    add(w, PERI_OP_LINEAR, (const uint32_t[]){x, weights, PERI_NONE, PERI_NONE, y}, 4, 1, &attr);
    return y;
}

static uint32_t attention(world *w, uint32_t x, int il) {
    static const peri_rope_attr rope = {.size = sizeof rope,
                                        .pairs = PERI_ROPE_NEOX,
                                        .n_rot = D_HEAD,
                                        .base = 1e4f,
                                        .freq_scale = 1,
                                        .magnitude = 1};
    static const peri_attn_attr attn = {.size = sizeof attn, .scale = 0.25f};
    const int64_t T = -PERI_SYM_T, dim[4] = {N_BLOCK, BLOCK, N_KV, D_HEAD};
    uint64_t bytes =
        (uint64_t)N_BLOCK * BLOCK * N_KV * D_HEAD * peri_dtype_get(w->kv_dtype)->block_bytes;
    uint32_t wq = add_weight(w, w->dtype, N_HEAD * D_HEAD, D_MODEL);
    uint32_t wk = add_weight(w, w->dtype, N_KV * D_HEAD, D_MODEL);
    uint32_t wv = add_weight(w, w->dtype, N_KV * D_HEAD, D_MODEL), none = PERI_NONE;
    uint32_t q = act(w, T, N_HEAD * D_HEAD), k = act(w, T, N_KV * D_HEAD),
             v = act(w, T, N_KV * D_HEAD), y = act(w, T, N_HEAD * D_HEAD);
    uint32_t kp = peri_graph_pool(&w->g, 0, w->kv_dtype, dim, (uint64_t)(2 * il) * bytes);
    uint32_t vp = peri_graph_pool(&w->g, 0, w->kv_dtype, dim, (uint64_t)(2 * il + 1) * bytes);
    add(w, PERI_OP_LINEAR_QKV,
        (const uint32_t[]){x, wq, wk, wv, none, none, none, none, none, none, q, k, v}, 10, 3,
        NULL);
    uint32_t qh = heads(w, q, N_HEAD), kh = heads(w, k, N_KV), vh = heads(w, v, N_KV);
    add(w, PERI_OP_ROPE, (const uint32_t[]){qh, none, qh}, 2, 1, &rope);
    add(w, PERI_OP_ROPE, (const uint32_t[]){kh, none, kh}, 2, 1, &rope);
    add(w, PERI_OP_KV_APPEND, (const uint32_t[]){kh, vh, kp, vp}, 4, 0, NULL);
    add(w, PERI_OP_ATTN, (const uint32_t[]){qh, kp, vp, none, heads(w, y, N_HEAD)}, 4, 1, &attn);
    return linear(w, y, T, D_MODEL, N_HEAD * D_HEAD);
}

static const peri_norm_attr rms = {.size = sizeof rms, .kind = PERI_NORM_RMS, .eps = 1e-6f};
static const peri_act_attr silu = {.size = sizeof silu, .act = PERI_ACT_SILU};

static uint32_t dense(world *w, uint32_t x) {
    uint32_t ff = act(w, -PERI_SYM_T, D_FF), gate = add_weight(w, w->dtype, D_FF, D_MODEL),
             up = add_weight(w, w->dtype, D_FF, D_MODEL);
    add(w, PERI_OP_GATE_UP_GLU, (const uint32_t[]){x, gate, up, ff}, 3, 1, &silu);
    return linear(w, ff, -PERI_SYM_T, D_MODEL, D_FF);
}

static uint32_t product_of_experts(world *w, uint32_t x, uint32_t ids, int64_t m, int64_t n) {
    const int64_t dim[3] = {-PERI_SYM_T, N_USED, m};
    uint32_t y = peri_graph_act(&w->g, PERI_DT_F32, dim, 3);
    uint32_t weights = add_weights(w, w->dtype, N_EXPERT, m, n, 1);
    add(w, PERI_OP_LINEAR_EXPERTS, (const uint32_t[]){x, weights, ids, PERI_NONE, PERI_NONE, y}, 5,
        1, NULL);
    return y;
}

static uint32_t experts(world *w, uint32_t x) {
    static const peri_linear_attr plain = {.size = sizeof plain};
    static const peri_route_attr route = {.size = sizeof route,
                                          .kind = PERI_ROUTE_SIGMOID,
                                          .renorm = 1,
                                          .n_group = 4,
                                          .n_group_used = 2,
                                          .weight_scale = 2};
    const int64_t T = -PERI_SYM_T, used[2] = {T, N_USED};
    uint32_t l = act(w, T, N_EXPERT), p = act(w, T, N_USED), y = act(w, T, D_MODEL);
    uint32_t ids = peri_graph_act(&w->g, PERI_DT_I32, used, 2), none = PERI_NONE;
    uint32_t router = add_weights(w, PERI_DT_F32, 1, N_EXPERT, D_MODEL, 4);
    uint32_t bias = add_weight(w, PERI_DT_F32, 1, N_EXPERT);
    add(w, PERI_OP_LINEAR, (const uint32_t[]){x, router, none, none, l}, 4, 1, &plain);
    add(w, PERI_OP_ROUTE, (const uint32_t[]){l, bias, ids, p}, 2, 2, &route);
    uint32_t gate = product_of_experts(w, x, ids, D_EXPERT, D_MODEL);
    uint32_t up = product_of_experts(w, x, ids, D_EXPERT, D_MODEL);
    add(w, PERI_OP_GLU, (const uint32_t[]){gate, up, gate}, 2, 1, &silu);
    uint32_t down = product_of_experts(w, gate, ids, D_MODEL, D_EXPERT);
    add(w, PERI_OP_EXPERT_SUM, (const uint32_t[]){down, p, y}, 2, 1, NULL);
    return y;
}

static void build(world *w) {
    static const peri_embed_attr embed = {.size = sizeof embed, .scale = 1};
    const int64_t T = -PERI_SYM_T;
    const uint32_t none = PERI_NONE;
    uint32_t more = none; /* what the last layer leaves to be added to x */
    peri_graph_init(&w->g);
    uint32_t x = act(w, T, D_MODEL);
    uint32_t table = add_weight(w, w->dtype, N_VOCAB, D_MODEL);
    add(w, PERI_OP_EMBED, (const uint32_t[]){table, x}, 1, 1, &embed);
    for (int il = 0; il < N_LAYER; il++) {
        uint32_t n1 = act(w, T, D_MODEL), n2 = act(w, T, D_MODEL);
        w->g.layer = (uint16_t)il;
        uint32_t w1 = add_weight(w, PERI_DT_F32, 1, D_MODEL);
        add(w, PERI_OP_NORM, (const uint32_t[]){x, w1, none, n1}, 3, 1, &rms);
        uint32_t a = attention(w, n1, il), w2 = add_weight(w, PERI_DT_F32, 1, D_MODEL);
        add(w, PERI_OP_ADD_NORM, (const uint32_t[]){x, a, w2, none, x, n2}, 4, 2, &rms);
        if (w->has_experts && il == N_LAYER - 1)
            more = experts(w, n2);
        else
            add(w, PERI_OP_ADD, (const uint32_t[]){x, dense(w, n2), x}, 2, 1, NULL);
    }
    w->g.layer = 0xffff;
    uint32_t rows = act(w, -PERI_SYM_R, D_MODEL), w3 = add_weight(w, PERI_DT_F32, 1, D_MODEL);
    uint32_t last = act(w, w->has_experts ? T : -PERI_SYM_R, D_MODEL);
    if (w->has_experts) {
        add(w, PERI_OP_ADD_NORM, (const uint32_t[]){x, more, w3, none, x, last}, 4, 2, &rms);
        add(w, PERI_OP_ROWS, (const uint32_t[]){last, rows}, 1, 1, NULL);
    } else {
        add(w, PERI_OP_ROWS, (const uint32_t[]){x, rows}, 1, 1, NULL);
        add(w, PERI_OP_NORM, (const uint32_t[]){rows, w3, none, last}, 3, 1, &rms);
    }
    w->logits = linear(w, w->has_experts ? rows : last, -PERI_SYM_R, N_VOCAB, D_MODEL);
}

/* ---- running
 * ----------------------------------------------------------------------------------------- */

/* Tokens n0 .. of each sequence: the prompts at the first step, then one each; at last rewound to
 * two tokens within the prompt and on with others, over keys that lie there already. */
static void make_step(kit_step *s, int step) {
    static const int32_t table[N_SEQ * 2] = {5, 1, 3, 6}; /* two blocks each, in no order */
    int32_t t = 0;
    *s = (kit_step){.n = {0, 0, N_SEQ, N_SEQ, 2}};
    for (int32_t q = 0; q < N_SEQ; q++) {
        int32_t n = N_PROMPT - 5 * q, first = step ? n + step - 1 : 0, end = n + step;
        int32_t rewound = step - N_DECODE - 1;
        if (rewound >= 0) end = n - 1 + rewound;
        if (rewound >= 0) first = rewound ? end - 1 : n - 3;
        for (int32_t pos = first; pos < end; pos++, t++) {
            s->tok[t] = (int32_t)kit_pick(rewound < 0 ? 9 : 10, (uint64_t)(q * 100 + pos), N_VOCAB);
            s->pos[t] = pos;
            s->seq[t] = q;
            s->slot[t] = table[q * 2 + pos / BLOCK] * BLOCK + pos % BLOCK;
        }
        s->ctx[q] = end;
        s->out_row[q] = t - 1;
    }
    memcpy(s->table, table, sizeof table);
    s->n[PERI_SYM_T] = t;
}

typedef struct step_block {
    peri_step head;
    kit_step data;
} step_block;

static int32_t run_ops(world *w, const peri_bind *bind, const peri_step *step, peri_error *e) {
    int32_t status = PERI_OK;
    for (uint32_t i = 0; i < w->plan->program->n_ops && !status; i++)
        status = w->p->api.run_op(w->p->dev, w->plan->program, i, bind, step, e);
    return status;
}

/* One by one: not what is compiled, but its operations. */
static bool run_device(world *w, const kit_step *s, int step, seat *on, bool is_one_by_one,
                       peri_error *e) {
#define AT(field) offsetof(step_block, data) + offsetof(kit_step, field)
    step_block block = {.head = {.size = sizeof block.head,
                                 .bytes = sizeof block,
                                 .number = (uint64_t)step + 1,
                                 .tok = AT(tok),
                                 .pos = AT(pos),
                                 .seq = AT(seq),
                                 .slot = AT(slot),
                                 .ctx = AT(ctx),
                                 .table = AT(table),
                                 .out_row = AT(out_row)},
                        .data = *s};
#undef AT
    memcpy(block.head.n, s->n, sizeof s->n);
    peri_bind bind = {.size = sizeof bind,
                      .n_weights = w->n_weight,
                      .n_pools = 1,
                      .arena = on->arena_buf.m.buf,
                      .weights = w->weight_at,
                      .pools = on->pool_at};
    peri_backend b = {.api = w->p->api, .dev = w->p->dev, .info = w->p->info, .host = &kit_host};
    memset(on->arena, 0xff, w->plan->program->arena_bytes);
    kit_place("a small model", NULL);
    kit_count();
    return kit_buffer_send(w->p, &on->arena_buf, e) &&
           (is_one_by_one ? run_ops(w, &bind, &block.head, e)
                          : peri_plan_run(w->plan, &b, &bind, &block.head, e)) == PERI_OK &&
           kit_buffer_fetch(w->p, &on->arena_buf, e);
}

static void run_reference(world *w, const kit_step *s) {
    const peri_program *p = w->plan->program;
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const peri_op *op = peri_op_at(p, i);
        kit_op o = {.code = op->code,
                    .n_in = op->n_in,
                    .n_out = op->n_out,
                    .attr = peri_attr(p, op),
                    .step = s,
                    .margin = w->margin};
        kit_numerics_parse(w->plan->numerics[i], &o.num);
        for (uint32_t k = 0; k < o.n_in + o.n_out; k++) {
            uint32_t id = peri_arg(p, op, k);
            if (id == PERI_NONE) continue;
            const peri_tensor *t = peri_tensor_at(p, id);
            o.v[k] = w->value[w->g.tensor[id].root];
            o.dtype[k] = t->dtype;
            for (int d = 0; d < 4; d++)
                o.dim[k][d] = peri_dim(t, d, s->n);
        }
        kit_ref_run(&o);
    }
}

static float logit_at(const world *w, const seat *on, int32_t r, int32_t i) {
    const peri_tensor *t = peri_tensor_at(w->plan->program, w->logits);
    float f;
    memcpy(&f, on->arena + t->off + (size_t)r * (size_t)t->stride[2] + (size_t)i * 4, 4);
    return f;
}

/* Largest error of a row of logits. */
static bool compare(world *w, const kit_step *s, int step, double gate) {
    const double *want = w->value[w->logits];
    for (int32_t r = 0; r < N_SEQ; r++) {
        w->n_row++;
        if (w->has_experts && w->margin[s->out_row[r]] < MARGIN) continue;
        w->n_compared++;
        double error = 0, size = 0, most = -1;
        kit_spot at = {.row = r};
        for (int32_t i = 0; i < N_VOCAB; i++) {
            float f = logit_at(w, &w->seat[0], r, i);
            double d = (double)f - want[r * N_VOCAB + i];
            error += d * d;
            size += want[r * N_VOCAB + i] * want[r * N_VOCAB + i];
            if (fabs(d) <= most) continue;
            most = isnan(d) ? INFINITY : fabs(d);
            at.element = i;
            at.found = (double)f;
            at.expected = want[r * N_VOCAB + i];
        }
        if (error / size <= gate) continue;
        kit_find_at(NULL, &at,
                    "small model%s, weights %s, cache %s, step %d, logits of sequence %d: error "
                    "%.3g, gate %g",
                    kind_of(w), peri_dtype_get(w->dtype)->name, peri_dtype_get(w->kv_dtype)->name,
                    step, (int)r, error / size, gate);
        return false;
    }
    return true;
}

/* ---- what is compiled
 * -------------------------------------------------------------------------------- */

static bool has_compiled(const world *w) {
    for (uint32_t i = 0; i < w->plan->n_stretch; i++)
        if (w->plan->stretch[i].compiled) return true;
    return false;
}

static bool is_same(world *w, int step, const float *want, const char *what) {
    for (int32_t i = 0; i < N_SEQ * N_VOCAB; i++) {
        float f = logit_at(w, &w->seat[1], i / N_VOCAB, i % N_VOCAB);
        if (memcmp(&f, &want[i], sizeof f) == 0) continue;
        kit_spot at = {0, i / N_VOCAB, i % N_VOCAB, (double)f, (double)want[i]};
        kit_find_at(NULL, &at,
                    "small model%s, weights %s, cache %s, step %d, compiled: other bits %s",
                    kind_of(w), peri_dtype_get(w->dtype)->name, peri_dtype_get(w->kv_dtype)->name,
                    step, what);
        return false;
    }
    return true;
}

/* The step once more bound to other memory, and its operations one at a time. */
static bool check_compiled(world *w, const kit_step *s, int step, peri_error *e) {
    float bound[N_SEQ * N_VOCAB];
    for (int32_t i = 0; i < N_SEQ * N_VOCAB; i++)
        bound[i] = logit_at(w, &w->seat[0], i / N_VOCAB, i % N_VOCAB);
    for (int is_one_by_one = 0; is_one_by_one < 2; is_one_by_one++) {
        if (!run_device(w, s, step, &w->seat[1], is_one_by_one, e)) {
            kit_find(NULL, "small model%s, step %d: %s", kind_of(w), step, e->text);
            return false;
        }
        if (!is_same(w, step, bound,
                     is_one_by_one ? "than its operations one at a time have"
                                   : "when bound to other memory"))
            return false;
    }
    return true;
}

static const peri_bucket bucket = {
    .size = sizeof bucket, .lo = {0, 1, 1, 1, 1}, .hi = {0, KIT_TOKENS, 4, 4, 4}};

static void compile_and_free(void *user) {
    world *w = user;
    peri_backend d = {.api = w->p->api, .dev = w->p->dev, .info = w->p->info, .host = &kit_host};
    peri_plan *plan;
    peri_error e;
    if (peri_plan_new(&d, &w->g, w->logits, &bucket, &plan, &e) == PERI_OK) peri_plan_free(plan);
}

/* Compiled and freed again and again: nothing is kept. */
static void check_compiling(world *w) {
    enum { WARM = 4 };
    kit_place("compile and free_compiled, again and again", NULL);
    for (int i = 0; i < WARM; i++)
        compile_and_free(w);
    int64_t n_live = kit_host_now.n_live;
    size_t kept = kit_heap_growth(w->p, compile_and_free, w);
    kit_count();
    if (kit_host_now.n_live > n_live)
        kit_find(NULL,
                 "small model: what was compiled and freed keeps memory of host->alloc: "
                 "%lld blocks",
                 (long long)(kit_host_now.n_live - n_live));
    else if (kept)
        kit_find(NULL,
                 "small model: what was compiled and freed keeps memory of the C library: "
                 "%zu bytes",
                 kept);
}

static bool is_rough(const world *w) {
    for (uint32_t i = 0; i < w->plan->program->n_ops; i++) {
        kit_numerics n;
        if (!kit_numerics_parse(w->plan->numerics[i], &n) || n.act < 32 || n.is_f16_sum)
            return true;
    }
    return false;
}

static bool no_memory(void) {
    kit_find(NULL, "the kit is out of memory");
    return false;
}

static bool send(world *w, size_t n_pool) {
    peri_error e;
    bool is_good = true;
    for (int k = 0; k < 2 && is_good; k++) {
        seat *on = &w->seat[k];
        is_good = kit_buffer_init(w->p, &on->arena_buf, on->arena, w->plan->program->arena_bytes,
                                  PERI_BUF_ARENA, &e) &&
                  kit_buffer_init(w->p, &on->pool_buf, on->pool, n_pool, PERI_BUF_POOL, &e);
        on->pool_at[0] = on->pool_buf.m.buf;
    }
    for (uint32_t i = 0; i < w->n_weight && is_good; i++) {
        const peri_dtype_info *t = peri_dtype_get(w->w[i].dtype);
        int64_t n = w->w[i].dim[1] * w->w[i].dim[2] * w->w[i].dim[3] / t->block_elements;
        is_good = kit_buffer_init(w->p, &w->weight_buf[i], w->w[i].bits, (size_t)n * t->block_bytes,
                                  PERI_BUF_WEIGHT, &e);
        w->weight_at[i] = w->weight_buf[i].m.buf;
    }
    if (!is_good) kit_find(NULL, "memory for a small model: %s", e.text);
    return is_good;
}

static bool prepare(world *w) {
    size_t pool = (size_t)2 * N_LAYER * N_BLOCK * BLOCK * N_KV * D_HEAD * 4;
    w->value = peri_calloc(w->g.n_tensor, sizeof *w->value);
    if (!w->value) return no_memory();
    for (int k = 0; k < 2; k++) {
        w->seat[k].arena = peri_alloc_aligned(w->plan->program->arena_bytes, 64);
        w->seat[k].pool = peri_alloc_aligned(pool, 64);
        if (!w->seat[k].arena || !w->seat[k].pool) return no_memory();
        memset(w->seat[k].pool, 0xff, pool);
    }
    for (uint32_t i = 0; i < w->g.n_tensor; i++) {
        const peri_tensor *t = &w->g.tensor[i].t;
        int64_t n = 1;
        if (w->g.tensor[i].root != i || t->kind == PERI_T_WEIGHT) continue;
        for (int d = 0; d < 4; d++)
            n *= t->dim[d] < 0 ? KIT_TOKENS : t->dim[d];
        w->value[i] = peri_calloc((size_t)n, sizeof **w->value);
        if (!w->value[i]) return no_memory();
    }
    for (uint32_t i = 0; i < w->n_weight; i++)
        w->value[w->weight_tensor[i]] = w->w[i].v;
    return send(w, pool);
}

static void finish(world *w) {
    for (int k = 0; k < 2; k++) {
        kit_buffer_fini(w->p, &w->seat[k].arena_buf);
        kit_buffer_fini(w->p, &w->seat[k].pool_buf);
        peri_free(w->seat[k].arena);
        peri_free(w->seat[k].pool);
    }
    for (uint32_t i = 0; w->value && i < w->g.n_tensor; i++)
        if (w->g.tensor[i].t.kind != PERI_T_WEIGHT) peri_free(w->value[i]);
    for (uint32_t i = 0; i < w->n_weight; i++) {
        kit_buffer_fini(w->p, &w->weight_buf[i]);
        peri_free(w->w[i].bits);
        peri_free(w->w[i].v);
    }
    peri_free(w->value);
    peri_plan_free(w->plan);
    peri_graph_fini(&w->g);
}

static void run_steps(world *w) {
    double gate = is_rough(w) ? GATE_ROUGH : w->kv_dtype == PERI_DT_F16 ? GATE_F16 : GATE_F32;
    bool is_good = true;
    peri_error e = {0};
    for (int step = 0; step <= N_DECODE + N_REWOUND && is_good; step++) {
        kit_step s;
        make_step(&s, step);
        is_good = run_device(w, &s, step, &w->seat[0], false, &e);
        if (!is_good) kit_find(NULL, "small model%s, step %d: %s", kind_of(w), step, e.text);
        if (is_good) run_reference(w, &s);
        if (is_good) is_good = compare(w, &s, step, gate);
        if (is_good && has_compiled(w)) is_good = check_compiled(w, &s, step, &e);
    }
    if (is_good && 2 * w->n_compared < w->n_row)
        kit_note("small model%s, weights %s: experts nearly equal, %d rows of %d compared",
                 kind_of(w), peri_dtype_get(w->dtype)->name, w->n_compared, w->n_row);
    if (is_good && has_compiled(w)) check_compiling(w);
}

static void run_model(kit_plugin *p, uint32_t dtype, uint32_t kv_dtype, bool has_experts) {
    world w = {.p = p, .dtype = dtype, .kv_dtype = kv_dtype, .has_experts = has_experts};
    peri_backend backend = {.api = p->api, .dev = p->dev, .info = p->info, .host = &kit_host};
    peri_error e = {0};
    build(&w);
    kit_place("supports, for a small model", NULL);
    if (w.is_out_of_memory ||
        (peri_plan_new(&backend, &w.g, w.logits, &bucket, &w.plan, &e) != PERI_OK &&
         e.code == PERI_E_NOMEM)) {
        kit_find(NULL, "the kit is out of memory");
    } else if (!w.plan) {
        kit_note("small model%s, weights %s, cache %s: not run: %s", kind_of(&w),
                 peri_dtype_get(dtype)->name, peri_dtype_get(kv_dtype)->name, e.text);
    } else if (prepare(&w)) {
        run_steps(&w);
    }
    finish(&w);
}

void kit_stage_model(kit_plugin *p) {
    static const uint32_t types[] = {PERI_DT_F32, PERI_DT_F16, PERI_DT_Q8_0, PERI_DT_Q4_0};
    if (p->only_op || p->only_type) {
        kit_note("not run: --op or --type asks for a part");
        return;
    }
    kit_host_now.n_worker = KIT_WORKERS;
    if (!kit_open(p)) return;
    for (size_t i = 0; i < 2 * sizeof types / sizeof *types; i++)
        run_model(p, types[i / 2], i / 2 % 2 ? PERI_DT_F32 : PERI_DT_F16, i % 2);
    kit_close(p);
    kit_is_clean("after small models and close");
}
