/* SPDX-License-Identifier: MIT
 *
 * split.c - filling devices with the parts of a model, by benefit per byte and by predicted time.
 *
 * Problem.  A model may be larger than its fastest device.  Cutting it into whole layers leaves the
 * slow device with attention, which every token reads in full, while the fast one holds experts of
 * which a token reads a few.  So parts are the unit, and what a byte of memory saves decides:
 *
 *     benefit per byte = bytes read per token / bytes held * (1 / GB/s slow - 1 / GB/s fast)
 *
 * The second factor is the same for all parts of a device, so the first alone orders them; equal
 * ones (the layers of a dense model) go in the order of the chain, so that neighbours stay
 * together.  Each device is filled in turn; the last one takes what is left.
 *
 * Then copies.  Whether the result is worth its crossings is asked over the whole chain at once: a
 * part may stay or move to a later device (which is the slower, so memory that matters is only ever
 * freed), at the cost
 *
 *     bytes read / GB/s  +  ops * microseconds  +  copies * microseconds
 *         +  bytes copied / GB/s of the slower link.
 *
 * If the moved parts do not fit where they go, the first answer stands.  Filling in the plain order
 * of the chain is tried as well, because it makes the fewest copies; the faster answer wins.
 * Choosing parts and minding copies at the same time would be a knapsack; this order is exact where
 * copies are cheap beside reading weights, which is where a split pays at all. */
#include "plugin/split.h"

#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"

#include "base/compiler.h"

typedef struct solver {
    const peri_split_device *device;
    const peri_split_part *part;
    uint32_t n_device, n_part;
    bool is_tied;
    const uint8_t *fixed; /* never NULL */
    enum { BY_DENSITY, AS_THEY_COME } order;
} solver;

void peri_split_fini(peri_split *s) {
    peri_free(s->device);
    peri_free(s->is_empty);
    *s = (peri_split){0};
}

static bool is_empty(const peri_split_part *p) {
    return !p->bytes && !p->kv_bytes && !p->token_bytes;
}

static uint64_t bytes_of(const peri_split_part *p) {
    return p->bytes + p->kv_bytes;
}

/* Bytes read per token and byte held. */
static double density(const peri_split_part *p) {
    uint64_t held = bytes_of(p);
    return held ? (double)(p->token_bytes + p->kv_token_bytes) / (double)held : 0;
}

/* ---- filling ----------------------------------------------------------------------------------*/

/* The part to place next: the densest left, of equal ones the first; or simply the first. */
static uint32_t next_part(const solver *v, const bool *is_tried) {
    uint32_t best = v->n_part;
    for (uint32_t i = 0; i < v->n_part; i++) {
        if (is_tried[i]) continue;
        bool is_denser = best < v->n_part && v->order == BY_DENSITY &&
                         density(&v->part[i]) > density(&v->part[best]);
        if (best == v->n_part || is_denser) best = i;
    }
    return best;
}

/* Give device d what fits of the parts that are not placed.  What belongs together (the embedding
 * that is also the head) is the head's weight. */
static void fill(const solver *v, uint32_t d, peri_split *s, bool *is_placed, bool *is_tried) {
    for (uint32_t i = 0; i < v->n_part; i++)
        is_tried[i] = is_placed[i];
    for (uint32_t i; (i = next_part(v, is_tried)) < v->n_part;) {
        uint64_t bytes = bytes_of(&v->part[i]);
        is_tried[i] = true;
        if (bytes > v->device[d].room - s->held[d]) continue;
        s->held[d] += bytes;
        s->device[i] = (uint8_t)d;
        is_placed[i] = true;
    }
}

/* Put what is fixed on its device, and take its bytes off the room. */
static peri_status place_fixed(const solver *v, peri_split *s, bool *is_placed, peri_error *err) {
    for (uint32_t i = 0; i < v->n_part; i++) {
        uint8_t d = v->fixed[i];
        if (d == PERI_SPLIT_FREE) continue;
        s->device[i] = d;
        s->held[d] += s->is_empty[i] || (v->is_tied && i == 0) ? 0 : bytes_of(&v->part[i]);
        is_placed[i] = true;
    }
    for (uint32_t d = 0; d < v->n_device; d++)
        if (s->held[d] > v->device[d].room)
            return peri_fail(err, PERI_E_NOMEM,
                             "device %s has %" PRIu64 " MiB, and what rules of placement put there "
                             "needs %" PRIu64 " MiB",
                             v->device[d].name, v->device[d].room >> 20, s->held[d] >> 20);
    return PERI_OK;
}

static peri_status too_little(const solver *v, peri_error *err) {
    peri_text list = {0};
    uint64_t need = 0;
    for (uint32_t i = 0; i < v->n_part; i++)
        need += bytes_of(&v->part[i]);
    for (uint32_t d = 0; d < v->n_device; d++)
        peri_text_addf(&list, "%s%s has %" PRIu64 " MiB", d ? ", " : "", v->device[d].name,
                       v->device[d].room >> 20);
    peri_status st = peri_fail(
        err, PERI_E_NOMEM, "not enough memory: weights, keys and values need %" PRIu64 " MiB; %s",
        need >> 20, list.failed ? "out of memory" : list.data);
    peri_text_fini(&list);
    return st;
}

/* ---- time -------------------------------------------------------------------------------------*/

static double read_s(const peri_split_device *d, const peri_split_part *p, bool with_kv) {
    double kv_gbps = d->kv_gbps > 0 ? d->kv_gbps : d->gbps;
    double s = (double)p->token_bytes / (d->gbps * 1e9) +
               (p->n_op * d->op_us + p->n_linear * d->linear_us + p->n_attn * d->attn_us) * 1e-6;
    return with_kv ? s + (double)p->kv_token_bytes / (kv_gbps * 1e9) : s;
}

static double copy_s(const peri_split_device *a, const peri_split_device *b,
                     const peri_split_part *p) {
    double us = a->copy_us > b->copy_us ? a->copy_us : b->copy_us;
    double gbps = a->link_gbps < b->link_gbps ? a->link_gbps : b->link_gbps;
    return p->n_copy * us * 1e-6 + (double)p->copy_bytes / (gbps * 1e9);
}

static bool knows_all_speeds(const solver *v) {
    for (uint32_t d = 0; d < v->n_device; d++)
        if (v->device[d].gbps <= 0) return false;
    return true;
}

void peri_split_measure(const peri_split_device *device, const peri_split_part *part,
                        peri_split *s) {
    uint8_t before = s->device[0];
    bool is_known = true;
    memset(s->held, 0, sizeof s->held);
    s->n_copy = 0;
    s->copy_bytes = 0;
    s->token_s = 0;
    for (uint32_t i = 0; i < s->n_part; i++) {
        uint8_t d = s->device[i];
        if (is_empty(&part[i])) continue;
        s->held[d] += bytes_of(&part[i]);
        is_known = is_known && device[d].gbps > 0;
        if (device[d].gbps > 0) s->token_s += read_s(&device[d], &part[i], false);
        if (d != before) {
            s->n_copy += part[i].n_copy;
            s->copy_bytes += part[i].copy_bytes;
            s->token_s += copy_s(&device[before], &device[d], &part[i]);
        }
        before = d;
    }
    if (!is_known) s->token_s = 0;
}

/* ---- copies -----------------------------------------------------------------------------------*/

/* Part i has to stay where it is: the user says so, or it is one weight with another part. */
static bool is_fixed(const solver *v, uint32_t i) {
    return v->fixed[i] != PERI_SPLIT_FREE || (v->is_tied && (i == 0 || i == v->n_part - 1));
}

/* cost[i][d]: the cheapest token up to part i on d; from: where the part before is then. */
static void walk(const solver *v, const uint8_t *first, double *cost, uint8_t *from) {
    uint32_t n = v->n_device;
    for (uint32_t i = 0; i < v->n_part; i++) {
        const peri_split_part *p = &v->part[i];
        for (uint32_t d = 0; d < n; d++) {
            double least = i ? 1e300 : 0;
            from[i * n + d] = (uint8_t)d;
            for (uint32_t b = 0; i && b < n; b++) {
                if (is_empty(p) && b != d) continue;
                double c =
                    cost[(i - 1) * n + b] + (b == d ? 0 : copy_s(&v->device[b], &v->device[d], p));
                if (c >= least) continue;
                least = c;
                from[i * n + d] = (uint8_t)b;
            }
            bool is_allowed = is_empty(p) || (is_fixed(v, i) ? d == first[i] : d >= first[i]);
            cost[i * n + d] = !is_allowed ? 1e300 : least + read_s(&v->device[d], p, true);
        }
    }
}

static bool fits(const solver *v, const peri_split *s) {
    for (uint32_t d = 0; d < v->n_device; d++)
        if (s->held[d] > v->device[d].room) return false;
    return true;
}

/* Move parts to later devices where that saves time. */
static peri_status save_copies(const solver *v, peri_split *s, peri_error *err) {
    size_t n = (size_t)v->n_part * v->n_device;
    double *cost = peri_alloc_array(n, sizeof *cost);
    uint8_t *from = peri_alloc_array(n, 1), *first = peri_alloc_array(v->n_part, 1);
    bool ok = cost && from && first;
    if (ok) {
        memcpy(first, s->device, v->n_part);
        walk(v, first, cost, from);
        const double *end = &cost[(v->n_part - 1) * v->n_device];
        uint8_t d = 0;
        for (uint32_t k = 1; k < v->n_device; k++)
            if (end[k] < end[d]) d = (uint8_t)k;
        for (uint32_t i = v->n_part; i-- > 0;) {
            s->device[i] = d;
            d = from[i * v->n_device + d];
        }
        peri_split_measure(v->device, v->part, s);
        if (!fits(v, s)) memcpy(s->device, first, v->n_part);
    }
    peri_free(cost);
    peri_free(from);
    peri_free(first);
    return ok ? PERI_OK : peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
}

/* ---- deciding ---------------------------------------------------------------------------------*/

/* Parts that hold nothing follow the part before. */
static void place_empty(const solver *v, peri_split *s) {
    for (uint32_t i = 1; i < v->n_part; i++)
        if (is_empty(&v->part[i]) && v->fixed[i] == PERI_SPLIT_FREE)
            s->device[i] = s->device[i - 1];
}

/* One way to fill the devices, and what moving parts makes of it. */
static peri_status try_order(const solver *v, peri_split *out, peri_error *err) {
    *out = (peri_split){.n_part = v->n_part, .n_device = v->n_device};
    bool *is_placed = peri_calloc(v->n_part, sizeof *is_placed);
    bool *is_tried = peri_calloc(v->n_part, sizeof *is_tried);
    out->device = peri_calloc(v->n_part, 1);
    out->is_empty = peri_calloc(v->n_part, sizeof *out->is_empty);
    peri_status st = is_placed && is_tried && out->device && out->is_empty
                         ? PERI_OK
                         : peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    for (uint32_t i = 0; i < v->n_part && !st; i++) {
        out->is_empty[i] = is_empty(&v->part[i]);
        is_placed[i] = out->is_empty[i] || (v->is_tied && i == 0);
    }
    if (!st) st = place_fixed(v, out, is_placed, err);
    for (uint32_t d = 0; d < v->n_device && !st; d++)
        fill(v, d, out, is_placed, is_tried);
    for (uint32_t i = 0; i < v->n_part && !st; i++)
        if (!is_placed[i]) st = too_little(v, err);
    if (!st) {
        if (v->is_tied) out->device[0] = out->device[v->n_part - 1];
        place_empty(v, out);
        if (v->n_device > 1 && knows_all_speeds(v)) st = save_copies(v, out, err);
    }
    if (!st) peri_split_measure(v->device, v->part, out);
    peri_free(is_placed);
    peri_free(is_tried);
    if (st) peri_split_fini(out);
    return st;
}

/* One weight in two parts: what fixes one of them fixes both. */
static peri_status tie(const peri_split_task *t, uint8_t *fixed, peri_error *err) {
    uint8_t *first = &fixed[0], *last = &fixed[t->n_part - 1];
    if (!t->is_tied) return PERI_OK;
    if (*first == PERI_SPLIT_FREE) *first = *last;
    if (*last == PERI_SPLIT_FREE) *last = *first;
    if (*first == *last) return PERI_OK;
    return peri_fail(err, PERI_E_INVALID,
                     "rules of placement put the embedding on %s and the head on %s, but in this "
                     "model they are one weight",
                     t->device[*first].name, t->device[*last].name);
}

/* Both orders; the faster answer. */
static peri_status solve(solver *v, peri_split *out, peri_error *err) {
    peri_split other;
    v->order = BY_DENSITY;
    peri_status st = try_order(v, out, err);
    if (st || v->n_device == 1 || !knows_all_speeds(v)) return st;
    v->order = AS_THEY_COME;
    if (try_order(v, &other, NULL)) return PERI_OK; /* what was found stands */
    if (other.token_s < out->token_s) {
        peri_split swap = *out;
        *out = other;
        other = swap;
    }
    peri_split_fini(&other);
    return PERI_OK;
}

peri_status peri_split_solve(const peri_split_task *t, peri_split *out, peri_error *err) {
    *out = (peri_split){0};
    uint8_t *fixed = peri_alloc_array(t->n_part, 1);
    if (!fixed) return peri_fail(err, PERI_E_NOMEM, "placement: out of memory");
    if (t->fixed)
        memcpy(fixed, t->fixed, t->n_part);
    else
        memset(fixed, PERI_SPLIT_FREE, t->n_part);
    peri_status st = tie(t, fixed, err);
    solver v = {.device = t->device,
                .part = t->part,
                .n_device = t->n_device,
                .n_part = t->n_part,
                .is_tied = t->is_tied,
                .fixed = fixed};
    if (!st) st = solve(&v, out, err);
    peri_free(fixed);
    return st;
}

/* ---- in words ---------------------------------------------------------------------------------*/

static void add_range(peri_text *out, const char *what, uint32_t from, uint32_t to,
                      const char *device) {
    if (from == to)
        peri_text_addf(out, "%slayer %u on %s\n", what, from, device);
    else
        peri_text_addf(out, "%slayers %u-%u on %s\n", what, from, to, device);
}

/* Runs of layers whose parts of one kind (offset 1: layers, 2: experts) are on one device. */
static void add_runs(const peri_split *s, const char *const *name, uint32_t offset,
                     const char *what, peri_text *out) {
    uint32_t n_layer = (s->n_part - 2) / 2, first = 0;
    bool is_open = false;
    for (uint32_t il = 0; il <= n_layer; il++) {
        uint32_t i = 2 * il + offset;
        bool is_part = il < n_layer && !s->is_empty[i];
        bool goes_on = is_part && is_open && s->device[i] == s->device[2 * first + offset];
        if (is_open && !goes_on)
            add_range(out, what, first, il - 1, name[s->device[2 * first + offset]]);
        if (is_part && !goes_on) first = il;
        is_open = is_part;
    }
}

void peri_split_describe(const peri_split *s, const char *const *name, peri_text *out) {
    peri_text_addf(out, "embedding on %s\n", name[s->device[0]]);
    add_runs(s, name, 1, "", out);
    add_runs(s, name, 2, "experts of ", out);
    peri_text_addf(out, "head on %s\n", name[s->device[s->n_part - 1]]);
}
