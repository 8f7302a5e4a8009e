/* SPDX-License-Identifier: MIT
 *
 * ops.c - the operations, each as op.def writes it: plain loops, sums in double.  Operand numbers
 * are op.def's, inputs before outputs.  This is the file that you replace by kernels. */
#include <math.h>
#include <string.h>

#include "template.h"

/* ---- numbers ---- */

static float half_to_float(uint16_t h) {
    int e = h >> 10 & 31, m = h & 1023;
    float f = e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24);
    if (e == 31) f = m ? NAN : INFINITY;
    return h >> 15 ? -f : f;
}

static uint16_t float_to_half(float f) { /* to nearest, ties to even */
    uint16_t sign = signbit(f) ? 0x8000 : 0;
    int e;
    f = fabsf(f);
    if (isnan(f)) return sign | 0x7e00;
    if (f >= 65520) return sign | 0x7c00;
    frexpf(f, &e);
    e = e - 11 < -24 ? -24 : e - 11;
    return (uint16_t)(sign | (((e + 25) << 10) + (int)lrintf(ldexpf(f, -e)) - 1024));
}

static float half_at(const char *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_to_float(h);
}

/* n elements of a type, from element `first` on, widened.  Blocks of Q8_0: a half, 32 bytes. */
static void decode(const peri_tensor *t, const char *data, int64_t first, int64_t n, float *out) {
    if (t->dtype == F32) memcpy(out, data + first * 4, (size_t)n * 4);
    for (int64_t i = first; i < first + n; i++) {
        const char *block = data + i / 32 * 34;
        if (t->dtype == F16) out[i - first] = half_at(data + i * 2);
        if (t->dtype == Q8_0) out[i - first] = half_at(block) * (float)(int8_t)block[2 + i % 32];
    }
}

static const int32_t *ids(const job *j, uint32_t off) {
    return peri_step_array(j->step, off);
}

double product(const job *j, int k, int64_t r, const float *x) {
    double sum = 0;
    decode(j->t[k], j->at[k], r * j->d[k][3], j->d[k][3], j->dev->row);
    for (int64_t i = 0; i < j->d[k][3]; i++)
        sum += (double)j->dev->row[i] * (double)x[i];
    return sum;
}

/* ---- operations ---- */

static void embed(const job *j) {
    const peri_embed_attr *a = j->attr;
    for (int64_t t = 0, n = j->d[0][3]; t < n_row(j, 1); t++) {
        float *y = row(j, 1, t);
        decode(j->t[0], j->at[0], ids(j, a->source ? j->step->pos : j->step->tok)[t] * n, n, y);
        for (int64_t i = 0; i < n; i++)
            y[i] *= a->scale;
    }
}

static void linear(const job *j) {
    const peri_linear_attr *a = j->attr;
    double scale = j->t[3] ? (double)row(j, 3, 0)[0] : 1;
    for (int64_t t = 0; t < n_row(j, 0); t++)
        for (int64_t o = 0; o < j->d[1][2]; o++) {
            double sum = product(j, 1, o, row(j, 0, t)), b = j->t[2] ? (double)row(j, 2, 0)[o] : 0;
            row(j, 4, t)[o] =
                (float)(a->flags & PERI_LINEAR_SCALE_LAST ? scale * (sum + b) : scale * sum + b);
        }
}

static void norm(const job *j) {
    const peri_norm_attr *a = j->attr;
    for (int64_t r = 0, n = j->d[0][3]; r < n_row(j, 0); r++) {
        const float *x = row(j, 0, r), *w = j->t[1] ? row(j, 1, r % n_row(j, 1)) : NULL;
        const float *b = j->t[2] && a->kind == PERI_NORM_LAYER ? row(j, 2, r % n_row(j, 2)) : NULL;
        double mean = 0, sum = 0, by = (double)a->eps;
        for (int64_t i = 0; i < n && a->kind == PERI_NORM_LAYER; i++)
            mean += (double)x[i] / (double)n;
        for (int64_t i = 0; i < n; i++)
            sum += ((double)x[i] - mean) * ((double)x[i] - mean);
        by = a->kind == PERI_NORM_L2 ? fmax(sqrt(sum), by) : sqrt(sum / (double)n + by);
        for (int64_t i = 0; i < n; i++)
            row(j, 3, r)[i] = (float)(((double)x[i] - mean) / by * (w ? (double)w[i] : 1) +
                                      (b ? (double)b[i] : 0));
    }
}

static void rope(const job *j) {
    const peri_rope_attr *a = j->attr;
    uint32_t half = a->n_rot / 2, next = a->pairs ? 1 : 2, other = a->pairs ? half : 1;
    float step = powf(a->base, -2.0f / (float)a->n_rot);
    for (int64_t r = 0; r < n_row(j, 0); r++) {
        float *y = row(j, 2, r), theta = (float)ids(j, j->step->pos)[r / j->d[0][2]];
        memmove(y, row(j, 0, r), (size_t)j->d[0][3] * 4);
        y += a->first;
        for (uint32_t i = 0; i < half; i++, theta *= step) {
            float e = j->t[1] ? theta / row(j, 1, 0)[i] : theta, u = a->freq_scale * e;
            float ramp = ((float)i - a->ramp_lo) / fmaxf(0.001f, a->ramp_hi - a->ramp_lo);
            ramp = a->ext * (1 - fminf(1, fmaxf(0, ramp)));
            double angle = (double)(a->ext == 0 ? u : u * (1 - ramp) + e * ramp);
            double c = (double)a->magnitude * cos(angle), s = (double)a->magnitude * sin(angle);
            double x0 = (double)y[i * next], x1 = (double)y[i * next + other];
            y[i * next] = (float)(x0 * c - x1 * s);
            y[i * next + other] = (float)(x0 * s + x1 * c);
        }
    }
}

static void kv_append(const job *j) {
    for (int64_t t = 0; t < j->d[0][1]; t++)
        for (int k = 0; k < 2; k++) {
            int64_t n_head = j->d[k][2], n = j->d[k][3], slot = ids(j, j->step->slot)[t];
            for (int64_t i = 0; i < n_head * n && slot >= 0; i++) { /* below 0: a padding token */
                float x = row(j, k, t * n_head + i / n)[i % n];
                uint16_t h = float_to_half(x);
                char *to = j->at[2 + k] + (slot * n_head * n + i) * (j->t[2 + k]->dtype ? 2 : 4);
                memcpy(to, j->t[2 + k]->dtype ? (void *)&h : (void *)&x,
                       j->t[2 + k]->dtype ? 2 : 4);
            }
        }
}

/* Keys in rising order, keeping the largest logit, the sum of exponentials and the weighted values.
 */
static void attend(const job *j, int64_t t, int64_t h, double slope) {
    const peri_attn_attr *a = j->attr;
    int64_t n_head = j->d[0][2], n_kv = j->d[1][2], dk = j->d[1][3], dv = j->d[2][3];
    int64_t g = h / (n_head / n_kv), block = j->d[1][1], pos = ids(j, j->step->pos)[t];
    int64_t s = ids(j, j->step->seq)[t], n_key = ids(j, j->step->ctx)[s];
    const int32_t *table = ids(j, j->step->table) + s * j->step->n[PERI_SYM_B];
    float *q = row(j, 0, t * n_head + h), *y = row(j, 4, t * n_head + h), *o = j->dev->head;
    double top = j->t[3] ? (double)row(j, 3, 0)[h] : -INFINITY, sum = j->t[3] ? 1 : 0;
    memset(o, 0, (size_t)dv * 4);
    for (int64_t key = 0; key < n_key; key++) {
        int64_t at = (table[key / block] * block + key % block) * n_kv + g;
        double z = 0, keep;
        if ((!(a->flags & PERI_ATTN_NOT_CAUSAL) && key > pos) ||
            (a->window > 0 && pos - key >= a->window) ||
            (a->chunk > 0 && key / a->chunk != pos / a->chunk))
            continue;
        decode(j->t[1], j->at[1], at * dk, dk, j->dev->row);
        for (int64_t i = 0; i < dk; i++)
            z += (double)q[i] * (double)j->dev->row[i];
        z *= (double)a->scale;
        if (a->cap > 0) z = (double)a->cap * tanh(z / (double)a->cap);
        z += slope * (double)(key - pos);
        keep = z > top ? exp(top - z) : 1;
        top = fmax(top, z);
        sum = sum * keep + exp(z - top);
        decode(j->t[2], j->at[2], at * dv, dv, j->dev->row);
        for (int64_t i = 0; i < dv; i++)
            o[i] = (float)((double)o[i] * keep + exp(z - top) * (double)j->dev->row[i]);
    }
    for (int64_t i = 0; i < dv; i++)
        y[i] = sum > 0 ? (float)((double)o[i] / sum) : 0;
}

static void attn(const job *j) {
    const peri_attn_attr *a = j->attr;
    double n = exp2(floor(log2((double)j->d[0][2]))), most = (double)a->alibi_max;
    for (int64_t r = 0; r < n_row(j, 0); r++) {
        double h = (double)(r % j->d[0][2]);
        double slope =
            h < n ? exp2(-most * (h + 1) / n) : exp2(-most * (2 * (h - n) + 1) / (2 * n));
        attend(j, r / j->d[0][2], r % j->d[0][2], most == 0 ? 0 : slope);
    }
}

static double activate(const peri_act_attr *a, double x) {
    // clang-format off
    switch (a->act) {
    case PERI_ACT_SILU: return x / (1 + exp(-x));
    case PERI_ACT_GELU: return 0.5 * x * (1 + tanh(0.7978845608 * (x + 0.044715 * x * x * x)));
    case PERI_ACT_GELU_ERF: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case PERI_ACT_GELU_QUICK: return x / (1 + exp(-1.702 * x));
    case PERI_ACT_RELU: return fmax(x, 0);
    case PERI_ACT_RELU2: return fmax(x, 0) * fmax(x, 0);
    case PERI_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case PERI_ACT_TANH: return tanh(x);
    case PERI_ACT_SOFTPLUS: return x > 20 ? x : log1p(exp(x));
    default: return (double)a->param * tanh(x / (double)a->param);
    }
    // clang-format on
}

/* ACT, GLU, ADD, MUL and SCALE: element by element; b may be one row or one number for all. */
static void elements(const job *j, uint16_t code) {
    int y = code == PERI_OP_ACT || code == PERI_OP_SCALE ? 1 : 2;
    for (int64_t r = 0; r < n_row(j, y); r++)
        for (int64_t i = 0; i < j->d[y][3]; i++) {
            double x = (double)row(j, 0, r)[i], b = 0;
            if (y == 2) b = (double)row(j, 1, r % n_row(j, 1))[i % j->d[1][3]];
            row(j, y, r)[i] = (float)(code == PERI_OP_ACT   ? activate(j->attr, x)
                                      : code == PERI_OP_GLU ? activate(j->attr, x) * b
                                      : code == PERI_OP_ADD ? x + b
                                      : code == PERI_OP_MUL
                                          ? x * b
                                          : x * (double)((const peri_scale_attr *)j->attr)->scale);
        }
}

static void rows(const job *j) {
    for (int64_t r = 0; r < n_row(j, 1); r++)
        memcpy(row(j, 1, r), row(j, 0, ids(j, j->step->out_row)[r]), (size_t)j->d[1][3] * 4);
}

int run_job(const job *j, uint16_t code) {
    // clang-format off
    switch (code) {
    case PERI_OP_EMBED: embed(j); return 1;
    case PERI_OP_LINEAR: linear(j); return 1;
    case PERI_OP_NORM: norm(j); return 1;
    case PERI_OP_ROPE: rope(j); return 1;
    case PERI_OP_KV_APPEND: kv_append(j); return 1;
    case PERI_OP_ATTN: attn(j); return 1;
    case PERI_OP_ACT: case PERI_OP_GLU: case PERI_OP_ADD: case PERI_OP_MUL: case PERI_OP_SCALE:
        elements(j, code); return 1;
    case PERI_OP_ROUTE: route(j); return 1;
    case PERI_OP_LINEAR_EXPERTS: linear_experts(j); return 1;
    case PERI_OP_EXPERT_SUM: expert_sum(j); return 1;
    case PERI_OP_ROWS: rows(j); return 1;
    }
    // clang-format on
    return 0;
}
