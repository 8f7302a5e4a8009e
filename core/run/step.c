/* SPDX-License-Identifier: MIT
 *
 * step.c - batching: the shares of several sessions become steps, steps run on the plan, logits go
 * where they are wanted.
 *
 * A step takes tokens of the feeds in order until n_batch is full; a long prompt therefore spreads
 * over several steps and a short one rides along.  Grouping cannot change results, because plans
 * are invariant (op.def, Numerics).  Sessions move only after everything has succeeded: until then
 * their n_tok is untouched and the tokens computed so far are forgotten.
 *
 * A row comes back as a list of its likeliest tokens where that is enough (top.h), else whole, each
 * row of a step in its own way. */
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/session.h"

#include "base/compiler.h"

/* One call of peri_engine_step. */
typedef struct batch {
    peri_engine *e;
    const peri_step_feed *feed;
    size_t n_feed, chunk;
    size_t *done;                /* [n_feed] tokens computed */
    int32_t n_tok, n_seq, n_row; /* of this step */
    int32_t n_list;              /* of its rows so many come as lists */
    peri_step_part *part;        /* [n_feed] */
} batch;

static peri_status check_feed(const peri_engine *e, const peri_step_feed *f, peri_error *err) {
    if (!f->s || f->s->e != e) return peri_fail(err, PERI_E_INVALID, "a session of another model");
    if (f->s->in_step)
        return peri_fail(err, PERI_E_INVALID, "a session is named twice in one step");
    if (f->n_tok < 1) return peri_fail(err, PERI_E_INVALID, "a share of no tokens");
    if (f->is_again) return PERI_OK;
    return peri_session_check(f->s, f->tok, f->n_tok, err);
}

/* Mark the rows of which a list of the likeliest tokens decides all that is asked, if a plan with
 * lists is for this step. */
static void choose_lists(batch *b, bool has_lists) {
    b->n_list = 0;
    for (int32_t i = 0; i < b->n_seq && has_lists; i++) {
        peri_step_part *p = &b->part[i];
        const peri_step_feed *f = &b->feed[p->feed];
        int32_t n = peri_sampler_top(f->s->sampler);
        p->has_list = p->n_row && !f->logits && !f->want_row && n >= 1 && n <= b->e->n_top;
        b->n_list += p->has_list;
    }
}

/* Choose this step's tokens: part[] and the counts; which plan is for them. */
static int choose_parts(batch *b) {
    int32_t room = b->e->o.n_batch, rows = 0;
    bool all_rows = false;
    b->n_tok = b->n_seq = b->n_list = 0;
    for (size_t i = 0; i < b->n_feed && b->n_tok < room && b->n_seq < b->e->o.n_session; i++) {
        const peri_step_feed *f = &b->feed[i];
        size_t left = f->n_tok - b->done[i], n = (size_t)(room - b->n_tok);
        if (!left) continue;
        if (n > left) n = left;
        if (b->chunk && n > b->chunk) n = b->chunk;
        peri_step_part *p = &b->part[b->n_seq++];
        *p = (peri_step_part){.feed = i, .n_tok = (int32_t)n, .first_row = rows};
        p->n_row = f->all_logits && f->logits ? (int32_t)n : b->done[i] + n == f->n_tok;
        all_rows = all_rows || p->n_row > 1;
        rows += p->n_row;
        b->n_tok += (int32_t)n;
    }
    b->n_row = rows;
    if (all_rows) return PERI_PLAN_ALL_ROWS;
    int32_t few = PERI_DECODE_TOKENS < room ? PERI_DECODE_TOKENS : room;
    bool is_few = b->n_tok <= few && b->n_seq <= few;
    int top = is_few ? PERI_PLAN_DECODE_TOP : PERI_PLAN_PREFILL_TOP;
    choose_lists(b, b->e->plan[top] != NULL);
    return b->n_list ? top : is_few ? PERI_PLAN_DECODE : PERI_PLAN_PREFILL;
}

/* Lay out the step block and fill it. */
static const peri_step *fill_step(batch *b) {
    peri_engine *e = b->e;
    int32_t block = (int32_t)e->kv.block_tokens, max_blocks = 1;
    for (int32_t s = 0; s < b->n_seq; s++) {
        const peri_step_part *p = &b->part[s];
        const peri_session *session = b->feed[p->feed].s;
        int32_t ctx = session->n_tok + (int32_t)b->done[p->feed] + p->n_tok;
        if ((ctx + block - 1) / block > max_blocks) max_blocks = (ctx + block - 1) / block;
    }
    peri_step *st = e->step;
    *st = (peri_step){.size = sizeof *st, .number = ++e->n_step};
    st->n[PERI_SYM_T] = b->n_tok;
    st->n[PERI_SYM_S] = b->n_seq;
    st->n[PERI_SYM_R] = b->n_row;
    st->n[PERI_SYM_B] = max_blocks;
    uint32_t at = sizeof *st, row_bytes = 4 * (uint32_t)b->n_tok;
    st->tok = at;
    st->pos = st->tok + row_bytes;
    st->seq = st->pos + row_bytes;
    st->slot = st->seq + row_bytes;
    st->ctx = st->slot + row_bytes;
    st->table = st->ctx + 4 * (uint32_t)b->n_seq;
    st->out_row = st->table + 4 * (uint32_t)b->n_seq * (uint32_t)max_blocks;
    st->bytes = st->out_row + 4 * (uint32_t)b->n_row;
    int32_t *tok = (int32_t *)((char *)st + st->tok), *pos = (int32_t *)((char *)st + st->pos),
            *seq = (int32_t *)((char *)st + st->seq), *slot = (int32_t *)((char *)st + st->slot),
            *ctx = (int32_t *)((char *)st + st->ctx), *table = (int32_t *)((char *)st + st->table),
            *row = (int32_t *)((char *)st + st->out_row);
    int32_t it = 0;
    for (int32_t s = 0; s < b->n_seq; s++) {
        const peri_step_part *p = &b->part[s];
        const peri_step_feed *f = &b->feed[p->feed];
        int32_t first = f->s->n_tok + (int32_t)b->done[p->feed];
        ctx[s] = first + p->n_tok;
        int32_t n_block = (ctx[s] + block - 1) / block;
        for (int32_t j = 0; j < max_blocks; j++)
            table[s * max_blocks + j] = j < n_block ? f->s->block[j] : -1;
        for (int32_t j = 0; j < p->n_tok; j++, it++) {
            tok[it] = f->tok[b->done[p->feed] + (size_t)j];
            pos[it] = first + j;
            seq[it] = s;
            slot[it] = f->s->block[pos[it] / block] * block + pos[it] % block;
            if (j >= p->n_tok - p->n_row) *row++ = it;
        }
    }
    return st;
}

/* Does this part bring its session's logits? */
static bool brings_logits(const batch *b, const peri_step_part *p) {
    const peri_step_feed *f = &b->feed[p->feed];
    return p->n_row && !p->has_list && b->done[p->feed] + (size_t)p->n_tok == f->n_tok;
}

/* Logits `at` .. at + n - 1 of this part's rows go to the caller's array, the session's, or both
 * for the last row. */
static void deliver(const batch *b, const peri_step_part *p, const float *rows, size_t at,
                    size_t n) {
    const peri_step_feed *f = &b->feed[p->feed];
    size_t v = (size_t)b->e->a->n_vocab, last = (size_t)(p->n_row - 1) * v;
    float *to = f->logits && f->all_logits ? f->logits + b->done[p->feed] * v : f->logits;
    for (int32_t i = 0; to && i < p->n_row; i++)
        memcpy(to + (size_t)i * v + at, rows + (size_t)i * v + at, n * sizeof *rows);
    if (brings_logits(b, p))
        peri_peaks_copy(rows + last + at, n, f->s->logits + at, f->s->peak + at / PERI_PEAK);
}

enum { PIECES = 8 }; /* of a row: enough for a few workers, 76 KB each of 152,000 logits */

typedef struct delivery {
    const batch *b;
    const float *logits;
    uint32_t n_piece;
    size_t piece; /* logits of one */
} delivery;

/* The rows of many sequences are as much to copy as a layer is to read, and one row as much as the
 * work between two layers, so the workers share them by pieces of rows. */
static void deliver_piece(void *arg, uint32_t i, uint32_t worker) {
    const delivery *d = arg;
    const peri_step_part *p = &d->b->part[i / d->n_piece];
    size_t v = (size_t)d->b->e->a->n_vocab, at = (size_t)(i % d->n_piece) * d->piece;
    (void)worker;
    if (!p->n_row || p->has_list) return;
    deliver(d->b, p, d->logits + (size_t)p->first_row * v, at,
            v - at < d->piece ? v - at : d->piece);
}

/* Rows of a tensor of words, from row `first` on, read from the device: the wait of a step. */
static peri_status read_rows(peri_engine *e, const peri_plan *plan, uint32_t tensor, int32_t first,
                             int32_t n, void *out, peri_error *err) {
    const peri_plan_seat *last = &e->seat[peri_plan_last(plan)];
    const peri_tensor *t = peri_tensor_at(plan->program, tensor);
    uint64_t row = 4 * (uint64_t)t->dim[3], bytes = (uint64_t)n * row;
    peri_status st = peri_memory_read(last->backend, &last->arena, t->off + (uint64_t)first * row,
                                      out, bytes, err);
    if (!st) st = peri_gguf_check(e->g, err);
    if (!st) e->n_row_bytes += bytes;
    return st;
}

/* The rows that come whole, of a device with memory of its own; those that follow one another in
 * one go.  A step without rows is waited for all the same. */
static peri_status read_whole(batch *b, const peri_plan *plan, peri_error *err) {
    peri_engine *e = b->e;
    peri_status st = PERI_OK;
    for (int32_t i = 0; i < b->n_seq && !st; i++) {
        int32_t first = b->part[i].first_row, n = 0;
        for (; i < b->n_seq && !b->part[i].has_list; i++)
            n += b->part[i].n_row;
        float *rows = e->rows + (size_t)first * (size_t)e->a->n_vocab;
        if (n || !b->n_row) st = read_rows(e, plan, plan->logits, first, n, rows, err);
    }
    return st;
}

static peri_status give_rows(batch *b, const peri_plan *plan, peri_error *err) {
    peri_engine *e = b->e;
    const peri_plan_seat *last = &e->seat[peri_plan_last(plan)];
    const peri_tensor *t = peri_tensor_at(plan->program, plan->logits);
    bool is_host = last->arena.host != NULL;
    peri_status st = is_host ? peri_gguf_check(e->g, err) : read_whole(b, plan, err);
    if (st) return st;
    size_t v = (size_t)e->a->n_vocab;
    delivery d = {.b = b, .logits = is_host ? peri_ptr(&last->bind, t) : e->rows};
    d.piece = (peri_n_peak(v) + PIECES - 1) / PIECES * PERI_PEAK;
    d.n_piece = (uint32_t)((v + d.piece - 1) / d.piece);
    peri_pool_run(last->backend->pool, (uint32_t)b->n_seq * d.n_piece, deliver_piece, &d);
    for (int32_t i = 0; i < b->n_seq; i++)
        if (brings_logits(b, &b->part[i])) {
            peri_session *s = b->feed[b->part[i].feed].s;
            s->has_logits = s->has_peaks = true;
        }
    e->n_row_whole += (uint64_t)(b->n_row - b->n_list);
    return PERI_OK;
}

/* Whether all lie in 0 .. end - 1; without a way out, so that compilers take several at a time. */
static bool are_below(const int32_t *id, int32_t n, int32_t end) {
    uint32_t n_out = 0;
    for (int32_t i = 0; i < n; i++)
        n_out += (uint32_t)id[i] >= (uint32_t)end;
    return n_out == 0;
}

/* A list of i32 [2][n_top]. */
static peri_status take_list(const peri_engine *e, const char *device, const int32_t *list,
                             peri_top *out, peri_error *err) {
    bool are_tokens = are_below(list, e->n_top, e->a->n_vocab);
    for (int32_t i = 0; !are_tokens && i < e->n_top; i++)
        if (list[i] < 0 || list[i] >= e->a->n_vocab)
            return peri_fail(err, PERI_E_OTHER,
                             "device %s: TOPK gave token %d, the vocabulary has 0 to %d", device,
                             list[i], e->a->n_vocab - 1);
    out->n = e->n_top;
    memcpy(out->id, list, (size_t)e->n_top * sizeof *out->id);
    memcpy(out->logit, list + e->n_top, (size_t)e->n_top * sizeof *out->logit);
    return PERI_OK;
}

/* The lists of all rows are read: a whole row's is no more than a thousand bytes. */
static peri_status give_lists(batch *b, const peri_plan *plan, peri_error *err) {
    peri_engine *e = b->e;
    const char *device = e->backend[peri_plan_last(plan)]->info.name;
    size_t width = 2 * (size_t)e->n_top;
    peri_status st = read_rows(e, plan, plan->lists, 0, b->n_row, e->lists, err);
    for (int32_t i = 0; i < b->n_seq && !st; i++) {
        const peri_step_part *p = &b->part[i];
        peri_session *s = b->feed[p->feed].s;
        if (p->has_list)
            st = take_list(e, device, e->lists + (size_t)p->first_row * width, &s->top, err);
    }
    if (!st) e->n_row_top += (uint64_t)b->n_list;
    return st;
}

static peri_status run_step(batch *b, peri_error *err) {
    peri_engine *e = b->e;
    peri_plan *plan;
    int kind = choose_parts(b);
    peri_status st = peri_engine_plan(e, kind, &plan, err);
    if (st) return st;
    const peri_step *step = fill_step(b);
    st = peri_plan_run_on(plan, e->seat, e->staging, step, err);
    if (!st && b->n_list) st = give_lists(b, plan, err);
    if (!st && (b->n_list < b->n_row || !b->n_row)) st = give_rows(b, plan, err);
    if (st) return st;
    for (int32_t s = 0; s < b->n_seq; s++)
        b->done[b->part[s].feed] += (size_t)b->part[s].n_tok;
    return PERI_OK;
}

static bool is_finished(const batch *b) {
    for (size_t i = 0; i < b->n_feed; i++)
        if (b->done[i] < b->feed[i].n_tok) return false;
    return true;
}

static peri_status room_for(peri_engine *e, size_t n_feed, peri_error *err) {
    if (n_feed <= e->feed_room) return PERI_OK;
    size_t *done = peri_alloc_array(n_feed, sizeof *done);
    peri_step_part *part = peri_alloc_array(n_feed, sizeof *part);
    if (!done || !part) {
        peri_free(done);
        peri_free(part);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for a step of %zu sessions", n_feed);
    }
    peri_free(e->feed_done);
    peri_free(e->feed_part);
    e->feed_done = done;
    e->feed_part = part;
    e->feed_room = n_feed;
    return PERI_OK;
}

/* The step is over for this feed's session: it moves, or is as before. */
static void finish(const peri_step_feed *f, bool has_worked) {
    peri_session *s = f->s;
    s->in_step = false;
    if (!has_worked) {
        s->n_tok += f->is_again;
        peri_session_trim(s);
        return;
    }
    int32_t from = s->n_tok;
    memmove(s->tok + from, f->tok, f->n_tok * sizeof *f->tok);
    s->n_tok += (int32_t)f->n_tok;
    s->stats.n_computed += f->n_tok;
    peri_session_publish(s, from);
}

peri_status peri_engine_step(peri_engine *e, const peri_step_feed *feed, size_t n_feed,
                             size_t chunk, peri_error *err) {
    size_t n_marked = 0;
    peri_status st = PERI_OK;
    st = room_for(e, n_feed, err);
    batch b = {.e = e,
               .feed = feed,
               .n_feed = n_feed,
               .chunk = chunk,
               .done = e->feed_done,
               .part = e->feed_part};
    for (size_t i = 0; !st && i < n_feed; i++)
        b.done[i] = 0;
    for (; !st && n_marked < n_feed; n_marked++) {
        st = check_feed(e, &feed[n_marked], err);
        if (st) break;
        feed[n_marked].s->in_step = true;
        if (feed[n_marked].is_again) feed[n_marked].s->n_tok--;
    }
    for (size_t i = 0; !st && i < n_feed; i++)
        if (!feed[i].is_again)
            st = peri_session_reserve(feed[i].s, feed[i].s->n_tok + (int32_t)feed[i].n_tok, err);
    for (size_t i = 0; i < n_marked && !st; i++)
        peri_session_unpredict(feed[i].s);
    bool has_begun = !st;
    while (!st && !is_finished(&b))
        st = run_step(&b, err);
    for (size_t i = 0; i < n_marked; i++) {
        if (st && has_begun) peri_session_unpredict(feed[i].s);
        finish(&feed[i], st == PERI_OK);
    }
    return st;
}
