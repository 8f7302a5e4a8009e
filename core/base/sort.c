/* SPDX-License-Identifier: MIT
 *
 * sort.c - bottom-up merge sort of 32-bit indices.  Runs that are in order already are not touched.
 */
#include "base/sort.h"

#include <string.h>

#include "base/alloc.h"

#include "base/compiler.h"

/* Merge index[lo..mid) and index[mid..hi), both sorted, through scratch. */
static void merge(uint32_t *index, size_t lo, size_t mid, size_t hi, uint32_t *scratch,
                  peri_less_fn less, const void *user) {
    size_t n_left = mid - lo, a = 0, b = mid, out = lo;
    if (!less(user, index[mid], index[mid - 1])) return;
    memcpy(scratch, index + lo, n_left * sizeof *index);
    while (a < n_left && b < hi)
        index[out++] = less(user, index[b], scratch[a]) ? index[b++] : scratch[a++];
    memcpy(index + out, scratch + a, (n_left - a) * sizeof *index);
}

peri_status peri_sort_index(uint32_t *index, size_t n, peri_less_fn less, const void *user) {
    if (n < 2) return PERI_OK;
    uint32_t *scratch = peri_alloc_array(n, sizeof *scratch);
    if (scratch == NULL) return PERI_E_NOMEM;
    for (size_t width = 1; width < n; width *= 2)
        for (size_t lo = 0; n - lo > width; lo += 2 * width) {
            size_t hi = n - lo > 2 * width ? lo + 2 * width : n;
            merge(index, lo, lo + width, hi, scratch, less, user);
            if (hi == n) break;
        }
    peri_free(scratch);
    return PERI_OK;
}
