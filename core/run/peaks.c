/* SPDX-License-Identifier: MIT
 *
 * peaks.c - peaks by vectors of four.  Compilers leave the plain loop as it is, a chain. */
#include "run/peaks.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"

typedef float f32x4 __attribute__((vector_size(16)));
#if !defined(__SSE__)
typedef int i32x4 __attribute__((vector_size(16)));
#endif

/* a > b ? a : b.  Compilers make four instructions of it where the processor has one: a row in the
 * nearest cache took 33 us that way and takes 13. */
static f32x4 larger(f32x4 a, f32x4 b) {
#if defined(__SSE__)
    return __builtin_ia32_maxps(a, b);
#else
    i32x4 is = a > b;
    return (f32x4)((is & (i32x4)a) | (~is & (i32x4)b));
#endif
}

static float peak_of(const float *x) {
    f32x4 v[PERI_PEAK / 4], top[4];
    float most = -INFINITY;
    memcpy(v, x, sizeof v);
    for (int k = 0; k < 4; k++)
        top[k] = (f32x4){-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    for (int i = 0; i < PERI_PEAK / 4; i += 4)
        for (int k = 0; k < 4; k++)
            top[k] = larger(v[i + k], top[k]);
    top[0] = larger(larger(top[0], top[1]), larger(top[2], top[3]));
    for (int k = 0; k < 4; k++)
        most = top[0][k] > most ? top[0][k] : most;
    return most;
}

/* Of the end of a row. */
static float peak_of_few(const float *x, size_t n) {
    float most = -INFINITY;
    for (size_t i = 0; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

void peri_peaks_find(const float *x, size_t n, float *peak) {
    size_t i = 0;
    for (; i + PERI_PEAK <= n; i += PERI_PEAK)
        *peak++ = peak_of(x + i);
    if (i < n) *peak = peak_of_few(x + i, n - i);
}

void peri_peaks_copy(const float *x, size_t n, float *to, float *peak) {
    size_t i = 0;
    for (; i + PERI_PEAK <= n; i += PERI_PEAK) {
        memcpy(to + i, x + i, PERI_PEAK * sizeof *to);
        *peak++ = peak_of(to + i);
    }
    if (i == n) return;
    memcpy(to + i, x + i, (n - i) * sizeof *to);
    *peak = peak_of_few(to + i, n - i);
}
