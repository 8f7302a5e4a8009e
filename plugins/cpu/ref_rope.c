/* SPDX-License-Identifier: MIT
 *
 * ref_rope.c - ROPE.
 *
 * Angles are f32 throughout, as op.def says: with base 10^6, position 10^5 and a factor the angle
 * is thousands of turns, and only the same roundings give the same point on the circle as the
 * runtimes models are compared with. */
#include <math.h>
#include <string.h>

#include "ref.h"

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

static void rope_tokens(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    const peri_rope_attr *a = &j->attr.rope;
    const int32_t *pos = peri_step_array(j->step, j->step->pos);
    int64_t n_head = j->dim[0][2], n = j->dim[0][3], n_pair = a->n_rot / 2;
    int64_t next = a->pairs == PERI_ROPE_NEOX ? 1 : 2;       /* from pair to pair */
    int64_t other = a->pairs == PERI_ROPE_NEOX ? n_pair : 1; /* from x0 to x1 */
    float *c = scratch, *s = c + n_pair;
    for (int64_t t = lo; t < hi; t++) {
        rope_angles(a, j->ptr[1], pos[t], c, s);
        for (int64_t h = 0; h < n_head; h++) {
            const float *x = ref_row_f32(j, 0, t * n_head + h);
            float *y = ref_row_f32(j, 2, t * n_head + h);
            if (x != y) memcpy(y, x, (size_t)n * sizeof *y);
            y += a->first;
            for (int64_t i = 0; i < n_pair; i++) {
                double x0 = (double)y[i * next], x1 = (double)y[i * next + other];
                y[i * next] = (float)(x0 * (double)c[i] - x1 * (double)s[i]);
                y[i * next + other] = (float)(x0 * (double)s[i] + x1 * (double)c[i]);
            }
        }
    }
}

int32_t ref_rope(cpu_dev *d, const cpu_job *j, peri_error *e) {
    int32_t rc = cpu_reserve(d, j->attr.rope.n_rot * sizeof(float) + 64, 0, e);
    if (rc == PERI_OK) ref_split(d, j, j->dim[0][1], j->dim[0][2] * j->dim[0][3] * 4, rope_tokens);
    return rc;
}
