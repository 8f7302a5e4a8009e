/* SPDX-License-Identifier: MIT
 *
 * ref_linear.c - weights times activations: EMBED, LINEAR, LINEAR_QKV, GATE_UP_GLU, LINEAR_EXPERTS.
 *
 * Work is cut into runs of ROWS weight rows.  A worker decodes its run to f32 once and takes the
 * dot product with every token's row.  Which run an output element falls in does not enter its
 * value. */
#include "ref.h"

enum { ROWS = 16 };

double ref_dot(const float *a, const float *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += 256) {
        int64_t end = n - i < 256 ? n : i + 256, k = i;
        float lane[16] = {0};
        for (; k + 16 <= end; k += 16)
            for (int l = 0; l < 16; l++)
                lane[l] += a[k + l] * b[k + l];
        for (int l = 0; k < end; k++, l++)
            lane[l] += a[k] * b[k];
        for (int l = 0; l < 16; l++)
            sum += (double)lane[l];
    }
    return sum;
}

/* Address of row r of a weight: rows follow one another in every type. */
static const char *weight_row(const cpu_job *j, uint32_t k, int64_t r) {
    peri_dtype_info type = peri_dtype_of(j->t[k]->dtype);
    return (const char *)j->ptr[k] + r * (j->dim[k][3] / type.n * type.bytes);
}

static void decode_rows(const cpu_job *j, uint32_t k, int64_t lo, int64_t hi, float *out) {
    int64_t n = j->dim[k][3];
    for (int64_t r = lo; r < hi; r++)
        ref_dequant_row(j->t[k]->dtype, weight_row(j, k, r), out + (r - lo) * n, n);
}

/* ---- EMBED: y[t] = scale * W[i] ---- */

static void embed_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    const peri_step *s = j->step;
    const int32_t *id = peri_step_array(s, j->attr.embed.source ? s->pos : s->tok);
    int64_t n = j->dim[1][3];
    (void)scratch;
    for (int64_t t = lo; t < hi; t++) {
        float *y = ref_row_f32(j, 1, t);
        decode_rows(j, 0, id[t], id[t] + 1, y);
        for (int64_t i = 0; i < n; i++)
            y[i] *= j->attr.embed.scale;
    }
}

int32_t ref_embed(cpu_dev *d, const cpu_job *j, peri_error *e) {
    const peri_step *s = j->step;
    const int32_t *id = peri_step_array(s, j->attr.embed.source ? s->pos : s->tok);
    for (int64_t t = 0; t < j->dim[1][2]; t++)
        if (id[t] < 0 || id[t] >= j->dim[0][2])
            return peri_plugin_fail(e, PERI_E_RANGE, "EMBED: row %d of %lld wanted for token %lld",
                                    (int)id[t], (long long)j->dim[0][2], (long long)t);
    ref_split(d, j, j->dim[1][2], j->dim[1][3], embed_rows);
    return PERI_OK;
}

/* ---- LINEAR and the three of LINEAR_QKV ---- */

/* Operand numbers of one product; 0 = absent for bias and scale (operand 0 is always x). */
typedef struct product {
    uint32_t w, bias, scale, y, flags;
} product;

typedef struct linear_job {
    const cpu_job *j;
    cpu_dev *d;
    product p[3];
    int64_t n_run[3]; /* runs of ROWS rows in each product */
} linear_job;

static float finish(double sum, float scale, float bias, uint32_t flags) {
    if (flags & PERI_LINEAR_SCALE_LAST) return (float)((double)scale * (sum + (double)bias));
    return (float)((double)scale * sum + (double)bias);
}

static void linear_run(void *arg, uint32_t i, uint32_t worker) {
    const linear_job *lj = arg;
    const cpu_job *j = lj->j;
    const product *p = lj->p;
    int64_t run = i;
    for (int64_t k = 0; run >= lj->n_run[k]; k++, p++)
        run -= lj->n_run[k];
    int64_t m = j->dim[p->w][2], n = j->dim[p->w][3], lo = run * ROWS;
    int64_t hi = lo + ROWS < m ? lo + ROWS : m, n_tok = ref_n_row(j, p->y);
    float *w = cpu_scratch(lj->d, worker);
    const float *bias = p->bias ? j->ptr[p->bias] : NULL;
    float scale = p->scale && j->ptr[p->scale] ? *(const float *)j->ptr[p->scale] : 1.0f;
    decode_rows(j, p->w, lo, hi, w);
    for (int64_t t = 0; t < n_tok; t++) {
        const float *x = ref_row_f32(j, 0, t);
        float *y = ref_row_f32(j, p->y, t);
        for (int64_t o = lo; o < hi; o++)
            y[o] = finish(ref_dot(w + (o - lo) * n, x, n), scale, bias ? bias[o] : 0, p->flags);
    }
}

static int32_t run_linear(linear_job *lj, uint32_t n_product, peri_error *e) {
    const cpu_job *j = lj->j;
    int64_t n = 0;
    if (ref_n_row(j, lj->p[0].y) == 0) return PERI_OK;
    for (uint32_t k = 0; k < n_product; k++)
        n += lj->n_run[k] = (j->dim[lj->p[k].w][2] + ROWS - 1) / ROWS;
    int32_t rc = cpu_reserve(lj->d, (size_t)j->dim[0][3] * ROWS * sizeof(float), 0, e);
    if (rc == PERI_OK) cpu_parallel(lj->d, (uint32_t)n, linear_run, lj);
    return rc;
}

int32_t ref_linear(cpu_dev *d, const cpu_job *j, peri_error *e) {
    linear_job lj = {.j = j, .d = d, .p = {{1, 2, 3, 4, j->attr.linear.flags}}};
    return run_linear(&lj, 1, e);
}

int32_t ref_linear_qkv(cpu_dev *d, const cpu_job *j, peri_error *e) {
    linear_job lj = {.j = j, .d = d, .p = {{1, 4, 7, 10, 0}, {2, 5, 8, 11, 0}, {3, 6, 9, 12, 0}}};
    return run_linear(&lj, 3, e);
}

/* ---- GATE_UP_GLU ---- */

static void gate_up_run(void *arg, uint32_t i, uint32_t worker) {
    const linear_job *lj = arg;
    const cpu_job *j = lj->j;
    int64_t m = j->dim[1][2], n = j->dim[1][3], lo = (int64_t)i * ROWS;
    int64_t hi = lo + ROWS < m ? lo + ROWS : m, n_tok = j->dim[3][2];
    float *gate = cpu_scratch(lj->d, worker), *up = gate + ROWS * n;
    decode_rows(j, 1, lo, hi, gate);
    decode_rows(j, 2, lo, hi, up);
    for (int64_t t = 0; t < n_tok; t++) {
        const float *x = ref_row_f32(j, 0, t);
        float *y = ref_row_f32(j, 3, t);
        for (int64_t o = lo; o < hi; o++) {
            float g = (float)ref_dot(gate + (o - lo) * n, x, n);
            float u = (float)ref_dot(up + (o - lo) * n, x, n);
            y[o] = ref_act(j->attr.act.act, j->attr.act.param, g) * u;
        }
    }
}

int32_t ref_gate_up_glu(cpu_dev *d, const cpu_job *j, peri_error *e) {
    linear_job lj = {.j = j, .d = d};
    if (j->dim[3][2] == 0) return PERI_OK;
    int32_t rc = cpu_reserve(d, (size_t)j->dim[0][3] * 2 * ROWS * sizeof(float), 0, e);
    if (rc) return rc;
    cpu_parallel(d, (uint32_t)((j->dim[1][2] + ROWS - 1) / ROWS), gate_up_run, &lj);
    return PERI_OK;
}

/* ---- LINEAR_EXPERTS ----
 *
 * One item is a run of rows of all experts.  For each expert the run is decoded when the first pair
 * (t, j) that names it is found, and serves every further one: a prompt shares experts, and
 * decoding costs as much as several dot products. */

enum { X = 0, W = 1, IDS = 2, BIAS = 3, SCALE = 4, Y = 5 };

static void expert_run(void *arg, uint32_t i, uint32_t worker) {
    const linear_job *lj = arg;
    const cpu_job *j = lj->j;
    int64_t n_expert = j->dim[W][1], m = j->dim[W][2], n = j->dim[W][3], lo = (int64_t)i * ROWS;
    int64_t hi = lo + ROWS < m ? lo + ROWS : m, n_tok = j->dim[Y][1], n_used = j->dim[Y][2];
    int per_slot = j->dim[X][1] == n_tok && j->dim[X][2] == n_used;
    float *w = cpu_scratch(lj->d, worker);
    for (int64_t e = 0; e < n_expert; e++) {
        const float *bias = j->ptr[BIAS] ? (const float *)j->ptr[BIAS] + e * m : NULL;
        float scale = j->ptr[SCALE] ? ((const float *)j->ptr[SCALE])[e] : 1.0f;
        int is_decoded = 0;
        for (int64_t r = 0; r < n_tok * n_used; r++) {
            if (((const int32_t *)ref_row(j, IDS, r / n_used))[r % n_used] != e) continue;
            if (!is_decoded) decode_rows(j, W, e * m + lo, e * m + hi, w);
            is_decoded = 1;
            const float *x = ref_row_f32(j, X, per_slot ? r : r / n_used);
            float *y = ref_row_f32(j, Y, r);
            for (int64_t o = lo; o < hi; o++)
                y[o] = finish(ref_dot(w + (o - lo) * n, x, n), scale, bias ? bias[o] : 0, 0);
        }
    }
}

int32_t ref_linear_experts(cpu_dev *d, const cpu_job *j, peri_error *e) {
    linear_job lj = {.j = j, .d = d};
    int32_t rc = cpu_reserve(d, (size_t)j->dim[W][3] * ROWS * sizeof(float), 0, e);
    if (rc) return rc;
    for (int64_t r = 0; r < j->dim[Y][1] * j->dim[Y][2]; r++) {
        int32_t id = ((const int32_t *)ref_row(j, IDS, r / j->dim[Y][2]))[r % j->dim[Y][2]];
        if (id < 0 || id >= j->dim[W][1])
            return peri_plugin_fail(e, PERI_E_RANGE, "LINEAR_EXPERTS: expert %d of %lld wanted",
                                    (int)id, (long long)j->dim[W][1]);
    }
    if (j->dim[Y][1] > 0)
        cpu_parallel(d, (uint32_t)((j->dim[W][2] + ROWS - 1) / ROWS), expert_run, &lj);
    return PERI_OK;
}
