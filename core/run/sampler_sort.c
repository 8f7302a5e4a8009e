/* SPDX-License-Identifier: MIT
 *
 * sampler_sort.c - candidates in order.
 *
 * Short lists are sorted by insertion, long ones by radix over a key that falls as the logit rises:
 * libc's qsort may allocate, and a pick must not.  The n likeliest of many are taken with a heap of
 * n: almost every candidate costs one comparison. */
#include <math.h>
#include <string.h>

#include "run/sampler_int.h"

#include "base/compiler.h"

enum { SHORT_LIST = 48, DIGIT_BITS = 11, N_DIGIT = 1 << DIGIT_BITS };
enum { LINE_LOGITS = 64 / sizeof(float) };

/* A number that rises as the logit falls. */
static uint32_t falling_key(const peri_candidate *a) {
    uint32_t u;
    float x = a->logit == 0 ? 0 : a->logit; /* -0 equals 0 */
    memcpy(&u, &x, sizeof u);
    return u & 0x80000000u ? u : ~u & 0x7FFFFFFFu;
}

static uint32_t id_key(const peri_candidate *a) {
    return (uint32_t)a->id;
}

/* Stable: three passes of 11 bits from a to tmp and back, odd results copied. */
static void radix(peri_candidate *a, peri_candidate *tmp, size_t n,
                  uint32_t (*key)(const peri_candidate *)) {
    peri_candidate *from = a, *to = tmp;
    for (int shift = 0; shift < 32; shift += DIGIT_BITS) {
        uint32_t start[N_DIGIT + 1] = {0};
        for (size_t i = 0; i < n; i++)
            start[(key(&from[i]) >> shift & (N_DIGIT - 1)) + 1]++;
        if (n && start[(key(&from[0]) >> shift & (N_DIGIT - 1)) + 1] == n) continue;
        for (int d = 0; d < N_DIGIT; d++)
            start[d + 1] += start[d];
        for (size_t i = 0; i < n; i++)
            to[start[key(&from[i]) >> shift & (N_DIGIT - 1)]++] = from[i];
        peri_candidate *swap = from;
        from = to;
        to = swap;
    }
    if (from != a) memcpy(a, from, n * sizeof *a);
}

static void insertion(peri_candidate *a, size_t n) {
    for (size_t i = 1; i < n; i++) {
        peri_candidate x = a[i];
        size_t j = i;
        for (; j > 0 && smp_is_after(&a[j - 1], &x); j--)
            a[j] = a[j - 1];
        a[j] = x;
    }
}

void smp_sort_range(peri_candidate *a, peri_candidate *tmp, size_t n, bool by_id) {
    if (n <= SHORT_LIST) {
        insertion(a, n);
        return;
    }
    if (!by_id) radix(a, tmp, n, id_key);
    radix(a, tmp, n, falling_key);
}

void smp_sort_ids(peri_candidate *a, peri_candidate *tmp, size_t n) {
    radix(a, tmp, n, id_key);
}

/* ---- the n likeliest ------------------------------------------------------------------------- */

/* Restore the heap whose root is the candidate that comes last. */
static void sift_down(peri_candidate *h, size_t n, size_t i) {
    for (;;) {
        size_t last = i, l = 2 * i + 1, r = l + 1;
        if (l < n && smp_is_after(&h[l], &h[last])) last = l;
        if (r < n && smp_is_after(&h[r], &h[last])) last = r;
        if (last == i) return;
        peri_candidate t = h[i];
        h[i] = h[last];
        h[last] = t;
        i = last;
    }
}

static void make_heap(peri_candidate *h, size_t n) {
    for (size_t i = n / 2; i-- > 0;)
        sift_down(h, n, i);
}

/* A heap becomes a sorted list: the last one goes to the end, again and again. */
static void unheap(peri_candidate *h, size_t n) {
    while (n > 1) {
        peri_candidate t = h[0];
        h[0] = h[--n];
        h[n] = t;
        sift_down(h, n, 0);
    }
}

void smp_head(const peri_candidate *a, size_t n, peri_candidate *dst, size_t n_top) {
    if (n_top == 0) return;
    memcpy(dst, a, n_top * sizeof *dst);
    make_heap(dst, n_top);
    for (size_t i = n_top; i < n; i++) {
        if (!smp_is_after(&dst[0], &a[i])) continue;
        dst[0] = a[i];
        sift_down(dst, n_top, 0);
    }
    unheap(dst, n_top);
}

/* Where the largest logit of each PERI_PEAK stands; found once for all that ask. */
static const float *peaks(smp_pick *k) {
    if (!k->peak) {
        peri_peaks_find(k->logits, k->n, k->x->peak);
        k->peak = k->x->peak;
    }
    return k->peak;
}

/* The first `room` of what joined it; all of them reach `least`. */
typedef struct likeliest {
    peri_candidate *c; /* [n]; a heap when it is full */
    size_t n, room;
    float least;
} likeliest;

/* Tokens `first` to end - 1. */
static void join(likeliest *h, const float *logits, size_t first, size_t end) {
    for (size_t i = first; i < end; i++) {
        peri_candidate x = {smp_number(logits[i]), 0, (int32_t)i};
        if (h->n == h->room) {
            if (x.logit < h->c[0].logit || !smp_is_after(&h->c[0], &x)) continue;
            h->c[0] = x;
            sift_down(h->c, h->n, 0);
        } else if (x.logit >= h->least) {
            h->c[h->n++] = x;
            if (h->n == h->room) make_heap(h->c, h->n);
        }
    }
}

/* The same from dense logits.  Behind the n_top first peaks lie n_top tokens that come before
 * whatever lies behind the others: so nothing else is looked at. */
static void head_of_logits(smp_pick *k, size_t n_top) {
    const float *peak = peaks(k);
    size_t n_peak = peri_n_peak(k->n);
    likeliest first = {.c = k->x->aux, .room = n_top, .least = -INFINITY},
              h = {.c = k->x->c, .room = n_top, .least = -INFINITY};
    if (n_top == 0) return;
    if (n_top < n_peak) {
        join(&first, peak, 0, n_peak);
        h.least = first.c[0].logit;
        for (size_t i = 0; i < n_top; i++) /* other threads wrote them, they are far away */
            for (int line = 0; line < PERI_PEAK; line += LINE_LOGITS)
                __builtin_prefetch(&k->logits[first.c[i].id * PERI_PEAK + line]);
        for (size_t i = 0; i < n_top; i++) {
            size_t at = (size_t)first.c[i].id * PERI_PEAK, left = k->n - at;
            join(&h, k->logits, at, at + (left < PERI_PEAK ? left : PERI_PEAK));
        }
    } else {
        join(&h, k->logits, 0, k->n);
    }
    unheap(h.c, n_top);
    k->c = h.c;
}

/* Index of the first of the largest logits; 0 when none is above -infinity. */
static size_t best_of_logits(smp_pick *k) {
    const float *peak = peaks(k);
    size_t n_peak = peri_n_peak(k->n), best = 0;
    for (size_t i = 1; i < n_peak; i++)
        if (peak[i] > peak[best]) best = i;
    if (isinf(peak[best]) && peak[best] < 0) return 0;
    for (size_t i = best * PERI_PEAK;; i++)
        if (k->logits[i] == peak[best]) return i;
}

/* ---- the list of a pick ---------------------------------------------------------------------- */

void smp_gather(smp_pick *k) {
    if (!k->is_dense) return;
    for (size_t i = 0; i < k->n; i++)
        k->c[i] = (peri_candidate){smp_number(k->logits[i]), 0, (int32_t)i};
    k->is_dense = false;
    k->is_sorted = false;
    k->is_by_id = true;
}

void smp_sort(smp_pick *k) {
    smp_gather(k);
    if (k->is_sorted) return;
    peri_candidate *tmp = k->c == k->x->c ? k->x->aux : k->x->c;
    smp_sort_range(k->c, tmp, k->n, k->is_by_id);
    k->is_sorted = true;
    k->is_by_id = false;
}

void smp_top(smp_pick *k, size_t n) {
    enum { FEW = 1024 }; /* more are sorted with all */
    if (n > k->n) n = k->n;
    if (k->is_dense && n <= FEW) {
        head_of_logits(k, n);
        k->is_dense = false;
    } else if (!k->is_dense && !k->is_sorted && n <= FEW && n < k->n) {
        peri_candidate *other = k->c == k->x->aux ? k->x->c : k->x->aux;
        smp_head(k->c, k->n, other, n);
        k->c = other;
    } else {
        smp_sort(k);
    }
    k->n = n;
    k->is_sorted = true;
    k->is_by_id = false;
}

size_t smp_best(smp_pick *k) {
    size_t best = 0;
    if (k->is_dense) return best_of_logits(k);
    for (size_t i = 1; i < k->n && !k->is_sorted; i++)
        if (smp_is_after(&k->c[best], &k->c[i])) best = i;
    return best;
}

float smp_max(smp_pick *k) {
    size_t best = smp_best(k);
    return k->is_dense ? smp_number(k->logits[best]) : k->c[best].logit;
}

/* p = exp(logit - max) / sum; all 0 when no logit is finite. */
void smp_softmax(smp_pick *k) {
    smp_gather(k);
    float top = k->n ? smp_max(k) : 0;
    double sum = 0;
    if (isinf(top)) top = 0;
    for (size_t i = 0; i < k->n; i++) {
        k->c[i].p = expf(k->c[i].logit - top);
        sum += (double)k->c[i].p;
    }
    for (size_t i = 0; i < k->n && sum > 0; i++)
        k->c[i].p = (float)((double)k->c[i].p / sum);
}

static void own_logits(smp_pick *k) {
    if (k->logits == k->x->work) return;
    memcpy(k->x->work, k->logits, k->n * sizeof *k->x->work);
    k->logits = k->x->work;
}

void smp_set_logit(smp_pick *k, int32_t id, float logit) {
    size_t i = (size_t)id / PERI_PEAK, first = i * PERI_PEAK, left = k->n - first;
    own_logits(k);
    float before = k->x->work[id], *peak = &k->x->peak[i];
    if (peaks(k) != k->x->peak) {
        memcpy(k->x->peak, k->peak, peri_n_peak(k->n) * sizeof *k->peak);
        k->peak = k->x->peak;
    }
    k->x->work[id] = logit;
    if (logit > *peak)
        *peak = logit;
    else if (before == *peak) /* it may have been the only one */
        peri_peaks_find(k->logits + first, left < PERI_PEAK ? left : PERI_PEAK, peak);
}

float *smp_own_logits(smp_pick *k) {
    own_logits(k);
    k->peak = NULL;
    return k->x->work;
}
