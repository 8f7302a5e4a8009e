/* SPDX-License-Identifier: MIT
 *
 * ref_rope.c - ROPE.
 *
 * Angles are f32 throughout, as op.def says: with base 10^6, position 10^5 and a factor the angle
 * is thousands of turns, and only the same roundings give the same point on the circle as the
 * runtimes models are compared with.  Every layer turns queries and keys by the same angles: their
 * cosines and sines, which cost more than the turning, are kept from op to op. */
#include <math.h>
#include <string.h>

#include "ref.h"

enum { RANGE_ELEMENTS = 8192 }; /* of a range, at least */

/* cos and sin of every pair at one position, times magnitude: f32 [n_rot / 2] each. */
static void rope_angles(const peri_rope_attr *a, const float *factor, int32_t pos, float *c,
                        float *s) {
    float theta = (float)pos, step = powf(a->base, -2.0f / (float)a->n_rot);
    float span = fmaxf(0.001f, a->ramp_hi - a->ramp_lo);
    for (uint32_t i = 0; i < a->n_rot / 2; i++, theta *= step) {
        float extrapolated = factor ? theta / factor[i] : theta;
        float angle = a->freq_scale * extrapolated;
        if (a->ext != 0) {
            float at = ((float)i - a->ramp_lo) / span;
            float ramp = a->ext * (1 - fminf(1, fmaxf(0, at)));
            angle = angle * (1 - ramp) + extrapolated * ramp;
        }
        c[i] = cosf(angle) * a->magnitude;
        s[i] = sinf(angle) * a->magnitude;
    }
}

/* The angles are those of a: f32 [n_tok][2][n_rot / 2]. */
typedef struct turns {
    const cpu_job *j;
    ref_turn_fn turn;
    float *angles;
    int has_angles;
    int64_t per_range;
} turns;

static void turn(float *y, int64_t n, int64_t next, int64_t other, const float *restrict c,
                 const float *restrict s) {
    for (int64_t i = 0; i < n; i++) {
        double x0 = (double)y[i * next], x1 = (double)y[i * next + other];
        y[i * next] = (float)(x0 * (double)c[i] - x1 * (double)s[i]);
        y[i * next + other] = (float)(x0 * (double)s[i] + x1 * (double)c[i]);
    }
}

static void rope_token(const turns *u, int64_t t) {
    const cpu_job *j = u->j;
    const peri_rope_attr *a = &j->attr.rope;
    const int32_t *pos = peri_step_array(j->step, j->step->pos);
    int64_t n_head = j->dim[0][2], n = j->dim[0][3], n_pair = a->n_rot / 2;
    float *c = u->angles + t * 2 * n_pair, *s = c + n_pair;
    if (!u->has_angles) rope_angles(a, j->ptr[1], pos[t], c, s);
    for (int64_t h = 0; h < n_head; h++) {
        const float *x = ref_row_f32(j, 0, t * n_head + h);
        float *y = ref_row_f32(j, 2, t * n_head + h);
        if (x != y) memcpy(y, x, (size_t)n * sizeof *y);
        if (a->pairs == PERI_ROPE_NEOX)
            u->turn(y + a->first, n_pair, 1, n_pair, c, s);
        else
            u->turn(y + a->first, n_pair, 2, 1, c, s);
    }
}

static void rope_range(void *arg, uint32_t i, uint32_t worker) {
    const turns *u = arg;
    int64_t lo = (int64_t)i * u->per_range, hi = lo + u->per_range, n = u->j->dim[0][1];
    (void)worker;
    for (int64_t t = lo; t < hi && t < n; t++)
        rope_token(u, t);
}

int32_t ref_rope_by(ref_turn_fn by, cpu_dev *d, const cpu_job *j, peri_error *e) {
    const peri_rope_attr *a = &j->attr.rope;
    int64_t n_tok = j->dim[0][1], n_pair = a->n_rot / 2;
    turns u = {
        .j = j, .turn = by, .per_range = 1 + RANGE_ELEMENTS / (j->dim[0][2] * j->dim[0][3] + 1)};
    cpu_bytes key[] = {{a, sizeof *a},
                       {peri_step_array(j->step, j->step->pos), (size_t)n_tok * sizeof(int32_t)},
                       {j->ptr[1], j->ptr[1] ? (size_t)n_pair * sizeof(float) : 0}};
    u.angles = cpu_keep(d, key, (size_t)(n_tok * n_pair * 2) * sizeof(float), &u.has_angles, e);
    if (!u.angles) return PERI_E_NOMEM;
    cpu_parallel(d, (uint32_t)((n_tok + u.per_range - 1) / u.per_range), rope_range, &u);
    return PERI_OK;
}

int32_t ref_rope(cpu_dev *d, const cpu_job *j, peri_error *e) {
    return ref_rope_by(turn, d, j, e);
}
