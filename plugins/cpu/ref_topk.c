/* SPDX-License-Identifier: MIT
 *
 * ref_topk.c - TOPK: the largest elements of each row, in their order.
 *
 * The outputs are the list that is being kept: sorted at all times, an element is put before those
 * that are smaller.  Ids rise, so an equal element comes after those that are there. */
#include <math.h>

#include "ref.h"

enum { X = 0, IDS = 1, Y = 2 };

static void best_of_rows(const cpu_job *j, int64_t lo, int64_t hi, void *scratch) {
    int64_t n = j->dim[X][3], k = j->dim[IDS][3];
    (void)scratch;
    for (int64_t r = lo; r < hi; r++) {
        const float *x = ref_row_f32(j, X, r);
        float *y = ref_row_f32(j, Y, r);
        int32_t *id = (int32_t *)(void *)ref_row(j, IDS, r);
        int64_t n_in = 0;
        for (int64_t i = 0; i < n; i++) {
            float v = isnan(x[i]) ? -INFINITY : x[i];
            if (n_in == k && !(v > y[k - 1])) continue;
            int64_t at = n_in < k ? n_in++ : k - 1;
            for (; at > 0 && v > y[at - 1]; at--) {
                y[at] = y[at - 1];
                id[at] = id[at - 1];
            }
            y[at] = v;
            id[at] = (int32_t)i;
        }
    }
}

int32_t ref_topk(cpu_dev *d, const cpu_job *j, peri_error *e) {
    (void)e;
    ref_split(d, j, j->dim[X][2], j->dim[X][3], best_of_rows);
    return PERI_OK;
}
