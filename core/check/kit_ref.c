/* SPDX-License-Identifier: MIT
 *
 * kit_ref.c - op.def once more, as plain loops over f64: the yardstick for other people's kernels.
 *
 * Written from op.def and from nothing else, so that a mistake shared with a backend is unlikely.
 * Clarity before speed: cases are small.  Attention and the KV pools are in kit_ref_attn.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/kit.h"

#include "base/compiler.h"

static int64_t rows(const kit_op *o, uint32_t k) {
    return o->dim[k][0] * o->dim[k][1] * o->dim[k][2];
}

int64_t kit_ref_size(const kit_op *o, uint32_t k) {
    return rows(o, k) * o->dim[k][3];
}

/* ---- activations as a backend may round them --------------------------------------------------
 */

/* Integer activations: d = amax / levels and x ~ d * rint(x * (1 / d)), d and 1 / d in f32. */
static void quantise(double *x, int64_t n, int span, double levels) {
    for (int64_t i = 0; i < n; i += span) {
        int64_t end = i + span < n ? i + span : n;
        double top = 0;
        for (int64_t k = i; k < end; k++)
            if (fabs(x[k]) > top) top = fabs(x[k]);
        float d = (float)(top / levels), inverse = 1.0f / d;
        for (int64_t k = i; k < end; k++)
            x[k] = d > 0 ? (double)d * rint((double)((float)x[k] * inverse)) : 0;
    }
}

enum { ROW_MAX = 8448 }; /* the longest row of kit_shapes.c */

/* Row r of operand k as the products see it; out: of ROW_MAX. */
static void load_row(const kit_op *o, uint32_t k, int64_t r, double *out) {
    int64_t n = o->dim[k][3];
    if (n > ROW_MAX) {
        fprintf(stderr, "perigee-check: a row of %lld, the reference has room for %d\n",
                (long long)n, ROW_MAX);
        exit(2);
    }
    memcpy(out, o->v[k] + r * n, (size_t)n * sizeof *out);
    if (o->num.act == 8) quantise(out, n, o->num.act_span, 127);
    for (int64_t i = 0; i < n; i++) {
        if (o->num.act == 16) out[i] = kit_round_f16(out[i]);
        if (o->num.act == -16) out[i] = kit_round_bf16(out[i]);
    }
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* ---- products -----------------------------------------------------------------------------------
 */

static void embed(const kit_op *o) {
    const peri_embed_attr *a = o->attr;
    int64_t n = o->dim[0][3];
    for (int64_t t = 0; t < rows(o, 1); t++) {
        int64_t id = a->source ? o->step->pos[t] : o->step->tok[t];
        for (int64_t i = 0; i < n; i++)
            o->v[1][t * n + i] = (double)a->scale * o->v[0][id * n + i];
    }
}

/* y = s (W x) + b, operand numbers; scale_last: s (W x + b). */
static void product(const kit_op *o, uint32_t w, uint32_t b, uint32_t s, uint32_t y,
                    bool is_scale_last) {
    double x[ROW_MAX];
    int64_t n = o->dim[w][3], m = o->dim[w][2];
    double scale = o->v[s] ? o->v[s][0] : 1;
    for (int64_t t = 0; t < rows(o, 0); t++) {
        load_row(o, 0, t, x);
        for (int64_t i = 0; i < m; i++) {
            double sum = dot(x, o->v[w] + i * n, n), bias = o->v[b] ? o->v[b][i] : 0;
            o->v[y][t * m + i] = is_scale_last ? scale * (sum + bias) : scale * sum + bias;
        }
    }
}

static void linear(const kit_op *o) {
    const peri_linear_attr *a = o->attr;
    product(o, 1, 2, 3, 4, (a->flags & PERI_LINEAR_SCALE_LAST) != 0);
}

static void linear_qkv(const kit_op *o) {
    for (uint32_t k = 0; k < 3; k++)
        product(o, 1 + k, 4 + k, 7 + k, 10 + k, false);
}

static void linear_experts(const kit_op *o) {
    double x[ROW_MAX];
    int64_t n = o->dim[1][3], m = o->dim[1][2], n_used = o->dim[2][3];
    bool is_per_choice = rows(o, 0) == o->dim[2][2] * n_used && o->dim[0][1] != 1;
    for (int64_t p = 0; p < o->dim[2][2] * n_used; p++) {
        int64_t e = (int64_t)o->v[2][p];
        load_row(o, 0, is_per_choice ? p : p / n_used, x);
        for (int64_t i = 0; i < m; i++) {
            double sum = dot(x, o->v[1] + (e * m + i) * n, n) * (o->v[4] ? o->v[4][e] : 1);
            o->v[5][p * m + i] = sum + (o->v[3] ? o->v[3][e * m + i] : 0);
        }
    }
}

static void expert_sum(const kit_op *o) {
    int64_t n_used = o->dim[1][3], n = o->dim[2][3];
    for (int64_t t = 0; t < rows(o, 2); t++)
        for (int64_t i = 0; i < n; i++) {
            double sum = 0;
            for (int64_t j = 0; j < n_used; j++)
                sum += o->v[1][t * n_used + j] * o->v[0][(t * n_used + j) * n + i];
            o->v[2][t * n + i] = sum;
        }
}

/* ---- rows and elements --------------------------------------------------------------------------
 */

static void norm_row(const peri_norm_attr *a, const double *x, const double *w, const double *b,
                     double *y, int64_t n) {
    double mean = 0, square = 0, eps = (double)a->eps;
    for (int64_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    if (a->kind != PERI_NORM_LAYER) mean = 0;
    for (int64_t i = 0; i < n; i++)
        square += (x[i] - mean) * (x[i] - mean);
    double by = a->kind == PERI_NORM_L2 ? fmax(sqrt(square), eps) : sqrt(square / (double)n + eps);
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) / by * (w ? w[i] : 1) + (b && a->kind == PERI_NORM_LAYER ? b[i] : 0);
}

static void norm(const kit_op *o, uint32_t x, uint32_t w, uint32_t b, uint32_t y) {
    int64_t n = o->dim[x][3];
    for (int64_t r = 0; r < rows(o, x); r++) {
        int64_t head = o->v[w] && rows(o, w) > 1 ? r % rows(o, w) : 0;
        norm_row(o->attr, o->v[x] + r * n, o->v[w] ? o->v[w] + head * n : NULL,
                 o->v[b] ? o->v[b] + head * n : NULL, o->v[y] + r * n, n);
    }
}

static double activate(const peri_act_attr *a, double x) {
    switch (a->act) {
    case PERI_ACT_SILU:
        return x / (1 + exp(-x));
    case PERI_ACT_GELU:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case PERI_ACT_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case PERI_ACT_GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    case PERI_ACT_RELU:
        return x > 0 ? x : 0;
    case PERI_ACT_RELU2:
        return x > 0 ? x * x : 0;
    case PERI_ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case PERI_ACT_TANH:
        return tanh(x);
    case PERI_ACT_SOFTPLUS:
        return x > 20 ? x : log1p(exp(x));
    default:
        return (double)a->param * tanh(x / (double)a->param);
    }
}

static void act(const kit_op *o) {
    for (int64_t i = 0; i < kit_ref_size(o, 1); i++)
        o->v[1][i] = activate(o->attr, o->v[0][i]);
}

static void glu(const kit_op *o) {
    for (int64_t i = 0; i < kit_ref_size(o, 2); i++)
        o->v[2][i] = activate(o->attr, o->v[0][i]) * o->v[1][i];
}

static void gate_up_glu(const kit_op *o) {
    double x[ROW_MAX];
    int64_t n = o->dim[1][3], m = o->dim[1][2];
    for (int64_t t = 0; t < rows(o, 0); t++) {
        load_row(o, 0, t, x);
        for (int64_t i = 0; i < m; i++)
            o->v[3][t * m + i] =
                activate(o->attr, dot(x, o->v[1] + i * n, n)) * dot(x, o->v[2] + i * n, n);
    }
}

/* a + b or a * b; b may be one row, or one number. */
static void combine(const kit_op *o, uint32_t y, bool is_product) {
    int64_t n = kit_ref_size(o, 1);
    for (int64_t i = 0; i < kit_ref_size(o, y); i++) {
        double a = o->v[0][i], b = o->v[1][i % n];
        o->v[y][i] = is_product ? a * b : a + b;
    }
}

static void scale(const kit_op *o) {
    const peri_scale_attr *a = o->attr;
    for (int64_t i = 0; i < kit_ref_size(o, 1); i++)
        o->v[1][i] = (double)a->scale * o->v[0][i];
}

static void rows_wanted(const kit_op *o) {
    int64_t n = o->dim[1][3];
    for (int64_t r = 0; r < rows(o, 1); r++)
        memmove(o->v[1] + r * n, o->v[0] + o->step->out_row[r] * n, (size_t)n * sizeof(double));
}

/* Angles are f32, by the recurrence of op.def. */
static double rope_angle(const peri_rope_attr *a, float theta, uint32_t i, const double *factor) {
    float e = factor ? theta / (float)factor[i] : theta, u = a->freq_scale * e;
    if (a->ext == 0) return (double)u;
    float at = ((float)i - a->ramp_lo) / fmaxf(0.001f, a->ramp_hi - a->ramp_lo);
    float r = a->ext * (1 - fminf(1, fmaxf(0, at)));
    return (double)(u * (1 - r) + e * r);
}

static void rope(const kit_op *o) {
    const peri_rope_attr *a = o->attr;
    int64_t n_head = o->dim[0][2], n = o->dim[0][3];
    uint32_t half = a->n_rot / 2, next = a->pairs == PERI_ROPE_NEOX ? 1 : 2,
             other = a->pairs == PERI_ROPE_NEOX ? half : 1;
    float by = powf(a->base, -2.0f / (float)a->n_rot);
    memmove(o->v[2], o->v[0], (size_t)kit_ref_size(o, 0) * sizeof(double));
    for (int64_t r = 0; r < rows(o, 0); r++) {
        double *y = o->v[2] + r * n + a->first;
        float theta = (float)o->step->pos[r / n_head];
        for (uint32_t i = 0; i < half; i++, theta *= by) {
            double angle = rope_angle(a, theta, i, o->v[1]), m = (double)a->magnitude;
            double x0 = y[i * next], x1 = y[i * next + other];
            y[i * next] = m * (x0 * cos(angle) - x1 * sin(angle));
            y[i * next + other] = m * (x0 * sin(angle) + x1 * cos(angle));
        }
    }
}

/* ---- experts ------------------------------------------------------------------------------------
 */

enum { EXPERT_MAX = 256 };

static void softmax(double *p, int64_t n) {
    double top = p[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        top = fmax(top, p[i]);
    for (int64_t i = 0; i < n; i++)
        sum += p[i] = exp(p[i] - top);
    for (int64_t i = 0; i < n; i++)
        p[i] /= sum;
}

/* The largest not yet taken among lo .. hi - 1, the lowest of equals; -1 when there is none. */
static int64_t largest(const double *rank, const bool *taken, int64_t lo, int64_t hi) {
    int64_t best = -1;
    for (int64_t i = lo; i < hi; i++)
        if (!taken[i] && (best < 0 || rank[i] > rank[best])) best = i;
    return best;
}

/* Returns by how much the last group that is open is before the first that is not. */
static double close_groups(const peri_route_attr *a, const double *rank, bool *taken, int64_t n) {
    double score[EXPERT_MAX], least = INFINITY, most = -INFINITY;
    bool is_open[EXPERT_MAX] = {false};
    int64_t size = n / a->n_group;
    for (int64_t g = 0; g < a->n_group; g++) {
        int64_t best = largest(rank, taken, g * size, (g + 1) * size);
        taken[best] = true;
        int64_t second = largest(rank, taken, g * size, (g + 1) * size);
        taken[best] = false;
        score[g] = rank[best] + (second < 0 ? 0 : rank[second]);
    }
    for (uint32_t k = 0; k < a->n_group_used; k++)
        is_open[largest(score, is_open, 0, a->n_group)] = true;
    for (int64_t i = 0; i < n; i++)
        taken[i] = !is_open[i / size];
    for (int64_t g = 0; g < a->n_group; g++)
        if (is_open[g])
            least = fmin(least, score[g]);
        else
            most = fmax(most, score[g]);
    return least - most;
}

/* Returns the margin of the choice: no expert or group would be another if no rank, nor sum of two,
 * were wrong by half of it. */
static double route_row(const kit_op *o, int64_t t) {
    const peri_route_attr *a = o->attr;
    int64_t n = o->dim[0][3], n_used = o->dim[2][3];
    double p[EXPERT_MAX], rank[EXPERT_MAX], sum = 0, *w = o->v[3] + t * n_used;
    double margin = INFINITY, last = 0;
    bool taken[EXPERT_MAX] = {false};
    memcpy(p, o->v[0] + t * n, (size_t)n * sizeof *p);
    if (a->kind == PERI_ROUTE_SOFTMAX) softmax(p, n);
    for (int64_t i = 0; i < n; i++) {
        if (a->kind == PERI_ROUTE_SIGMOID) p[i] = 1 / (1 + exp(-p[i]));
        rank[i] = p[i] + (o->v[1] ? o->v[1][i] : 0);
    }
    if (a->n_group > 1) margin = close_groups(a, rank, taken, n);
    for (int64_t k = 0; k < n_used; k++) {
        int64_t best = largest(rank, taken, 0, n);
        taken[best] = true;
        last = rank[best];
        o->v[2][t * n_used + k] = (double)best;
        w[k] = p[best];
    }
    int64_t left = largest(rank, taken, 0, n);
    if (left >= 0) margin = fmin(margin, last - rank[left]);
    if (a->kind == PERI_ROUTE_SOFTMAX_CHOSEN) softmax(w, n_used);
    for (int64_t k = 0; k < n_used; k++)
        sum += w[k];
    for (int64_t k = 0; k < n_used; k++)
        w[k] = (a->renorm ? w[k] / fmax(sum, 0x1p-14) : w[k]) * (double)a->weight_scale;
    return margin;
}

enum { VOCAB_MAX = 150016 }; /* more than any row of TOPK */

static void topk_row(const double *x, int64_t n, int64_t n_top, double *id, double *y) {
    bool is_in[VOCAB_MAX] = {false};
    for (int64_t k = 0; k < n_top; k++) {
        int64_t best = -1;
        for (int64_t i = 0; i < n; i++) {
            double v = isnan(x[i]) ? -INFINITY : x[i];
            if (is_in[i] || (best >= 0 && v <= y[k])) continue;
            best = i;
            y[k] = v;
        }
        is_in[best] = true;
        id[k] = (double)best;
    }
}

static void topk(const kit_op *o) {
    int64_t n = o->dim[0][3], n_top = o->dim[1][3];
    for (int64_t r = 0; r < rows(o, 0); r++)
        topk_row(o->v[0] + r * n, n, n_top, o->v[1] + r * n_top, o->v[2] + r * n_top);
}

static void route(const kit_op *o) {
    for (int64_t t = 0; t < rows(o, 0); t++) {
        double margin = route_row(o, t);
        if (o->margin) o->margin[t] = margin;
    }
}

static bool run_element(const kit_op *o) {
    switch (o->code) {
    case PERI_OP_ACT:
        act(o);
        return true;
    case PERI_OP_GLU:
        glu(o);
        return true;
    case PERI_OP_ADD:
        combine(o, 2, false);
        return true;
    case PERI_OP_MUL:
        combine(o, 2, true);
        return true;
    case PERI_OP_SCALE:
        scale(o);
        return true;
    case PERI_OP_ROWS:
        rows_wanted(o);
        return true;
    case PERI_OP_NORM:
        norm(o, 0, 1, 2, 3);
        return true;
    case PERI_OP_ADD_NORM:
        combine(o, 4, false);
        norm(o, 4, 2, 3, 5);
        return true;
    case PERI_OP_ROPE:
        rope(o);
        return true;
    }
    return kit_ref_attention(o);
}

bool kit_ref_run(const kit_op *o) {
    switch (o->code) {
    case PERI_OP_EMBED:
        embed(o);
        return true;
    case PERI_OP_LINEAR:
        linear(o);
        return true;
    case PERI_OP_LINEAR_QKV:
        linear_qkv(o);
        return true;
    case PERI_OP_GATE_UP_GLU:
        gate_up_glu(o);
        return true;
    case PERI_OP_LINEAR_EXPERTS:
        linear_experts(o);
        return true;
    case PERI_OP_EXPERT_SUM:
        expert_sum(o);
        return true;
    case PERI_OP_ROUTE:
        route(o);
        return true;
    case PERI_OP_TOPK:
        topk(o);
        return true;
    }
    return run_element(o);
}
