/* SPDX-License-Identifier: MIT
 *
 * session_kv.c - a session's blocks: reserving, sharing, publishing, and setting them aside.
 *
 * Room in `block` beyond the tokens held is a reservation: blocks of a sole holder, with nothing in
 * them. */
#include <string.h>

#include "base/alloc.h"
#include "base/status.h"
#include "run/kv.h"
#include "run/session.h"

#include "base/compiler.h"

static int32_t block_tokens(const peri_session *s) {
    return (int32_t)s->e->kv.block_tokens;
}

uint32_t peri_session_blocks(const peri_session *s, int32_t n_tok) {
    return (uint32_t)((n_tok + block_tokens(s) - 1) / block_tokens(s));
}

static void drop_blocks(peri_session *s, uint32_t keep) {
    while (s->n_block > keep)
        peri_prefix_release(&s->e->blocks, s->block[--s->n_block]);
}

/* Index of the partly filled block if writing the next token needs a copy of it, else -1. */
static int32_t shared_tail(const peri_session *s) {
    int32_t i = s->n_tok / block_tokens(s);
    return !s->swapped && s->n_tok % block_tokens(s) && s->e->blocks.count[s->block[i]] > 1 ? i
                                                                                            : -1;
}

uint32_t peri_session_wants(const peri_session *s, int32_t n_tok) {
    uint32_t want = peri_session_blocks(s, n_tok), n = want > s->n_block ? want - s->n_block : 0;
    return n + (n_tok > s->n_tok && shared_tail(s) >= 0);
}

static peri_status no_room(const peri_session *s, peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM,
                     "no room for keys and values: %u blocks of %u tokens are all in use",
                     s->e->blocks.n, s->e->kv.block_tokens);
}

/* The partly filled block becomes this session's own. */
static peri_status own_tail(peri_session *s, peri_error *err) {
    peri_prefix *p = &s->e->blocks;
    int32_t i = s->n_tok / block_tokens(s), used = s->n_tok % block_tokens(s);
    uint64_t bytes;
    if (!used) return PERI_OK;
    if (shared_tail(s) < 0) {
        peri_prefix_unpublish(p, s->block[i]);
        return PERI_OK;
    }
    int32_t id = peri_prefix_take(p);
    if (id < 0) return no_room(s, err);
    peri_status st = peri_kv_copy(s->e, s->block[i], id, used, &bytes, err);
    if (st) {
        peri_prefix_release(p, id);
        return st;
    }
    s->e->n_kv_copied_bytes += bytes;
    peri_prefix_release(p, s->block[i]);
    s->block[i] = id;
    return PERI_OK;
}

peri_status peri_session_reserve(peri_session *s, int32_t n_tok, peri_error *err) {
    uint32_t want = peri_session_blocks(s, n_tok), held = s->n_block;
    bool fits = peri_session_wants(s, n_tok) <= peri_prefix_room(&s->e->blocks);
    while (fits && s->n_block < want) {
        int32_t id = peri_prefix_take(&s->e->blocks);
        fits = id >= 0;
        if (fits) s->block[s->n_block++] = id;
    }
    peri_status st = !fits ? no_room(s, err) : n_tok > s->n_tok ? own_tail(s, err) : PERI_OK;
    if (st) drop_blocks(s, held);
    return st;
}

void peri_session_trim(peri_session *s) {
    drop_blocks(s, peri_session_blocks(s, s->n_tok));
}

/* Serial of the block that ends where block i begins; *ok false when it is not known. */
static uint64_t serial_before(const peri_session *s, int32_t i, bool *ok) {
    uint64_t serial = i ? s->e->blocks.serial[s->block[i - 1]] : 0;
    *ok = !i || serial;
    return serial;
}

size_t peri_session_attach(peri_session *s, const int32_t *tok, size_t n_tok) {
    int32_t bt = block_tokens(s);
    size_t used = 0;
    if (s->n_tok % bt) return 0;
    peri_session_trim(s);
    while (n_tok - used >= (size_t)bt && s->n_tok + bt <= s->e->o.n_ctx) {
        bool ok;
        uint64_t parent = serial_before(s, s->n_tok / bt, &ok);
        int32_t id = ok ? peri_prefix_find(&s->e->blocks, parent, tok + used) : -1;
        if (id < 0) break;
        peri_prefix_hold(&s->e->blocks, id);
        s->block[s->n_block++] = id;
        memcpy(s->tok + s->n_tok, tok + used, (size_t)bt * sizeof *tok);
        s->n_tok += bt;
        used += (size_t)bt;
        peri_session_unpredict(s);
    }
    return used;
}

void peri_session_publish(peri_session *s, int32_t from) {
    int32_t bt = block_tokens(s);
    for (int32_t i = from / bt; (i + 1) * bt <= s->n_tok; i++) {
        bool ok;
        uint64_t parent = serial_before(s, i, &ok);
        if (!ok || i * bt < s->n_foreign) continue;
        s->block[i] = peri_prefix_publish(&s->e->blocks, s->block[i], parent, s->tok + i * bt);
    }
}

/* ---- swapping -------------------------------------------------------------------------------- */

peri_status peri_session_swap_out(peri_session *s, peri_error *err) {
    uint64_t n = (uint64_t)s->n_tok * peri_kv_token_bytes(s->e);
    if (s->swapped) return PERI_OK;
    if (n && !(s->swapped = n <= SIZE_MAX ? peri_alloc((size_t)n) : NULL))
        return peri_fail(err, PERI_E_NOMEM, "out of memory: %llu bytes to set a session aside",
                         (unsigned long long)n);
    peri_status st = n ? peri_kv_export(s->e, s->block, s->n_tok, s->swapped, err) : PERI_OK;
    if (st) {
        peri_free(s->swapped);
        s->swapped = NULL;
        return st;
    }
    s->n_swapped = s->n_tok;
    s->e->n_swapped_bytes += n;
    s->e->n_preempted++;
    drop_blocks(s, 0);
    return PERI_OK;
}

peri_status peri_session_put_aside(peri_session *s, const uint8_t *kv, int32_t n_tok,
                                   peri_error *err) {
    uint64_t n = (uint64_t)n_tok * peri_kv_token_bytes(s->e);
    s->swapped = n <= SIZE_MAX ? peri_alloc((size_t)n) : NULL;
    if (!s->swapped)
        return peri_fail(err, PERI_E_NOMEM, "out of memory: %llu bytes to set a session aside",
                         (unsigned long long)n);
    memcpy(s->swapped, kv, (size_t)n);
    s->n_swapped = n_tok;
    return PERI_OK;
}

peri_status peri_session_swap_in(peri_session *s, peri_error *err) {
    int32_t n_tok = s->n_tok;
    bool has_logits = s->has_logits;
    int32_t n_top = s->top.n;
    if (!s->swapped) return PERI_OK;
    s->n_tok = 0;
    if (!s->n_foreign) peri_session_attach(s, s->tok, (size_t)n_tok);
    int32_t known = s->n_tok;
    s->n_tok = n_tok;
    s->has_logits = has_logits;
    s->top.n = n_top;
    for (uint32_t want = peri_session_blocks(s, n_tok); s->n_block < want;) {
        int32_t id = peri_prefix_take(&s->e->blocks);
        if (id < 0) {
            drop_blocks(s, 0);
            return peri_fail(err, PERI_E_NOMEM, "no room to bring %d tokens back", n_tok);
        }
        s->block[s->n_block++] = id;
    }
    peri_kv_range r = {known, n_tok, s->n_swapped};
    peri_status st = peri_kv_import(s->e, s->block, r, s->swapped, err);
    if (st) {
        drop_blocks(s, 0);
        return st;
    }
    s->e->n_swapped_bytes += (uint64_t)(n_tok - known) * peri_kv_token_bytes(s->e);
    peri_session_publish(s, known);
    peri_free(s->swapped);
    s->swapped = NULL;
    return PERI_OK;
}
