/* SPDX-License-Identifier: MIT
 *
 * session_file.c - a session as a file, and back.
 *
 * Little-endian, without padding:
 *
 *     "PERISESS" | u32 version | u32 flags | u64 bytes of the file | u64 fingerprint of the model |
 *     u32 type of keys and values | u32 layers | u64 bytes of keys and values per token |
 *     u32 vocabulary | u32 tokens | u64 stream | u64 children | u64 bytes of the sampler record |
 *     u32 tokens up to the end of the last prompt | sampler record | i32 tokens[] | f32
 * logits[vocabulary] if flag LOGITS | keys and values in the order of kv.h | u64 checksum of all
 * before
 *
 * The fingerprint covers the flattened architecture, the sizes that choose among its variants, the
 * names, types and shapes of all tensors and samples of their data.
 *
 * A file is written in one piece under a temporary name, flushed, and renamed.  Reading trusts
 * nothing: the checksum finds damage, every field is checked all the same, and what a forged file
 * can do is to make its own session talk nonsense; its keys and values never reach the prefix cache
 * (session.h). */
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/reader.h"
#include "base/status.h"
#include "base/text.h"
#include "run/kv.h"
#include "run/session.h"

#include "base/compiler.h"

enum { VERSION = 1, FLAG_LOGITS = 1, FLAG_SPECIAL = 2, FLAGS = 3 };
static const char magic[8] = {'P', 'E', 'R', 'I', 'S', 'E', 'S', 'S'};

/* Every step is a bijection of the state for a given word, so one changed byte always shows. */
static uint64_t hash(uint64_t h, const void *data, size_t n) {
    const uint8_t *p = data;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    for (; n; n--, p++) {
        h = (h ^ *p) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    return h;
}

/* ---- what a file must fit -------------------------------------------------------------------- */

static uint64_t hash_tensor(uint64_t h, const peri_gguf_tensor *t) {
    enum { SAMPLE = 64 };
    h = hash(h, t->name.data, t->name.size);
    h = hash(h, &t->dtype, sizeof t->dtype);
    h = hash(h, t->dim, sizeof t->dim);
    for (uint64_t i = 0; i < 4 && t->bytes >= SAMPLE; i++)
        h = hash(h, t->data + (t->bytes - SAMPLE) / 3 * i, SAMPLE);
    return h;
}

static peri_status fingerprint(const peri_engine *e, uint64_t *out, peri_error *err) {
    peri_text spec = {0};
    peri_arch_print(e->a, &spec);
    if (spec.failed) {
        peri_text_fini(&spec);
        return peri_fail(err, PERI_E_NOMEM, "out of memory for the fingerprint of a model");
    }
    uint64_t h = hash(1, spec.data, spec.size);
    peri_text_fini(&spec);
    const uint32_t variant = e->o.n_ctx > e->a->n_ctx_orig; /* long or short factors */
    h = hash(h, &variant, sizeof variant);
    for (uint64_t i = 0; i < peri_gguf_n_tensors(e->g); i++)
        h = hash_tensor(h, peri_gguf_tensor_at(e->g, i));
    *out = h;
    return peri_gguf_check(e->g, err);
}

/* ---- saving ---------------------------------------------------------------------------------- */

static void put_u32(peri_text *t, uint32_t v) {
    const uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    peri_text_add(t, b, sizeof b);
}

static void put_u64(peri_text *t, uint64_t v) {
    put_u32(t, (uint32_t)v);
    put_u32(t, (uint32_t)(v >> 32));
}

enum { HEAD_BYTES = 84 };

static void put_head(const peri_session *s, uint64_t print, uint64_t bytes, uint64_t record,
                     peri_text *t) {
    peri_text_add(t, magic, sizeof magic);
    put_u32(t, VERSION);
    put_u32(t, (s->has_logits ? FLAG_LOGITS : 0u) | (s->want_special ? FLAG_SPECIAL : 0u));
    put_u64(t, bytes);
    put_u64(t, print);
    put_u32(t, s->e->o.kv_dtype);
    put_u32(t, (uint32_t)s->e->a->n_layer);
    put_u64(t, peri_kv_token_bytes(s->e));
    put_u32(t, (uint32_t)s->e->a->n_vocab);
    put_u32(t, (uint32_t)s->n_tok);
    put_u64(t, s->stream);
    put_u64(t, s->n_child);
    put_u64(t, record);
    put_u32(t, (uint32_t)s->n_fed);
}

/* The whole file in *t, of which room for it all was made at once. */
static peri_status put_all(const peri_session *s, uint64_t print, const peri_text *record,
                           peri_text *t, peri_error *err) {
    size_t n_logits = s->has_logits ? (size_t)s->e->a->n_vocab : 0;
    uint64_t kv = (uint64_t)s->n_tok * peri_kv_token_bytes(s->e);
    uint64_t bytes = HEAD_BYTES + record->size + 4 * ((uint64_t)s->n_tok + n_logits) + kv + 8;
    t->data = bytes < SIZE_MAX ? peri_alloc((size_t)bytes + 1) : NULL;
    if (!t->data)
        return peri_fail(err, PERI_E_NOMEM, "out of memory: %" PRIu64 " bytes to save a session",
                         bytes);
    t->room = (size_t)bytes + 1;
    put_head(s, print, bytes, record->size, t);
    peri_text_add(t, record->data, record->size);
    for (int32_t i = 0; i < s->n_tok; i++)
        put_u32(t, (uint32_t)s->tok[i]);
    peri_text_add(t, s->logits, n_logits * sizeof *s->logits);
    peri_status st =
        kv ? peri_kv_export(s->e, s->block, s->n_tok, (uint8_t *)t->data + t->size, err) : PERI_OK;
    if (st) return st;
    t->size += (size_t)kv;
    put_u64(t, hash(VERSION, t->data, t->size));
    return t->failed ? peri_fail(err, PERI_E_NOMEM, "out of memory to save a session") : PERI_OK;
}

peri_status peri_session_save(const peri_session *s, const char *path, peri_error *err) {
    peri_text record = {0}, file = {0};
    uint64_t print;
    peri_status st = fingerprint(s->e, &print, err);
    if (!st) st = peri_sampler_save(s->sampler, s->n_tok, &record, err);
    if (!st) st = put_all(s, print, &record, &file, err);
    if (!st) st = peri_file_write(path, file.data, file.size, err);
    peri_text_fini(&record);
    peri_text_fini(&file);
    return st;
}

/* ---- loading --------------------------------------------------------------------------------- */

typedef struct head {
    uint32_t flags, n_vocab, n_tok, n_fed;
    uint64_t print, token_bytes, stream, n_child, record;
} head;

/* "FILE: offset N: WHAT: found A, expected B" about the u32 or u64 just read. */
static peri_status differs(const peri_reader *r, size_t width, const char *what, uint64_t found,
                           uint64_t want, peri_error *err) {
    return peri_fail(err, PERI_E_CORRUPT,
                     "%s: offset %" PRIu64 ": %s: found %" PRIu64 ", expected %" PRIu64, r->name,
                     r->off - width, what, found, want);
}

static peri_status want_u32(peri_reader *r, const char *what, uint32_t want, peri_error *err) {
    uint32_t v = 0;
    peri_status st = peri_read_u32(r, what, &v, err);
    if (!st && v != want) st = differs(r, sizeof v, what, v, want, err);
    return st;
}

static peri_status want_u64(peri_reader *r, const char *what, uint64_t want, peri_error *err) {
    uint64_t v = 0;
    peri_status st = peri_read_u64(r, what, &v, err);
    if (!st && v != want) st = differs(r, sizeof v, what, v, want, err);
    return st;
}

/* Magic, version, length and checksum: what shows that it is a whole file of ours. */
static peri_status read_frame(peri_reader *r, head *h, peri_error *err) {
    const uint8_t *m;
    peri_reader end = *r;
    peri_status st = peri_read_bytes(r, "magic", sizeof magic, &m, err);
    if (st) return st;
    if (memcmp(m, magic, sizeof magic) != 0)
        return peri_fail(err, PERI_E_CORRUPT,
                         "%s: offset 0: magic: found other bytes, expected PERISESS", r->name);
    st = want_u32(r, "version", VERSION, err);
    if (!st) st = peri_read_u32(r, "flags", &h->flags, err);
    if (!st && h->flags & ~(uint32_t)FLAGS)
        st = peri_fail(err, PERI_E_CORRUPT,
                       "%s: offset %" PRIu64 ": flags: found 0x%x, expected 0 to %d", r->name,
                       r->off - 4, h->flags, FLAGS);
    if (!st) st = want_u64(r, "bytes of the file", r->size, err);
    if (st) return st;
    end.off = r->size > 8 ? r->size - 8 : r->size;
    uint64_t sum = 0, mine = hash(VERSION, r->data, (size_t)end.off);
    st = peri_read_u64(&end, "checksum", &sum, err);
    if (!st && sum != mine)
        st = peri_fail(err, PERI_E_CORRUPT,
                       "%s: offset %" PRIu64 ": checksum: found %016" PRIx64
                       ", expected %016" PRIx64 "; the file is damaged",
                       r->name, end.off - 8, sum, mine);
    return st;
}

static peri_status read_head(peri_reader *r, const peri_engine *e, head *h, peri_error *err) {
    uint64_t print;
    peri_status st = fingerprint(e, &print, err);
    if (!st) st = peri_read_u64(r, "fingerprint of the model", &h->print, err);
    if (!st && h->print != print)
        st = peri_fail(err, PERI_E_CORRUPT,
                       "%s: offset %" PRIu64 ": fingerprint of the model: found %016" PRIx64
                       ", expected %016" PRIx64 "; the session belongs to another model than %s",
                       r->name, r->off - 8, h->print, print, peri_gguf_path(e->g));
    if (!st) st = want_u32(r, "type of keys and values", e->o.kv_dtype, err);
    if (!st) st = want_u32(r, "layers", (uint32_t)e->a->n_layer, err);
    if (!st) st = want_u64(r, "bytes per token", peri_kv_token_bytes(e), err);
    if (!st) st = want_u32(r, "vocabulary", (uint32_t)e->a->n_vocab, err);
    if (!st) st = peri_read_u32(r, "tokens", &h->n_tok, err);
    if (!st && h->n_tok > (uint32_t)e->o.n_ctx)
        st = peri_fail(err, PERI_E_RANGE,
                       "%s: offset %" PRIu64
                       ": tokens: found %u, expected at most the context of %d",
                       r->name, r->off - 4, h->n_tok, e->o.n_ctx);
    if (!st) st = peri_read_u64(r, "stream", &h->stream, err);
    if (!st) st = peri_read_u64(r, "children", &h->n_child, err);
    if (!st) st = peri_read_u64(r, "bytes of the sampler record", &h->record, err);
    if (!st) st = peri_read_u32(r, "tokens of the last prompt", &h->n_fed, err);
    if (!st && h->n_fed > h->n_tok)
        st = differs(r, 4, "tokens of the last prompt", h->n_fed, h->n_tok, err);
    return st;
}

static peri_status read_sampler(peri_reader *r, const head *h, peri_session *s, peri_error *err) {
    const uint8_t *unused;
    peri_reader record = *r;
    peri_status st = peri_read_bytes(r, "sampler record", h->record, &unused, err);
    if (st) return st;
    record.size = r->off; /* so that the record cannot reach beyond itself */
    st = peri_session_restore_sampler(s, &record, (int32_t)h->n_tok, err);
    if (!st && peri_reader_left(&record))
        st = peri_fail(err, PERI_E_CORRUPT,
                       "%s: offset %" PRIu64 ": sampler record: %" PRIu64 " bytes are left over",
                       r->name, record.off, peri_reader_left(&record));
    return st;
}

static peri_status read_tokens(peri_reader *r, const head *h, peri_session *s, peri_error *err) {
    for (uint32_t i = 0; i < h->n_tok; i++) {
        uint32_t id = 0;
        peri_status st = peri_read_u32(r, "token", &id, err);
        if (st) return st;
        if (id >= h->n_vocab)
            return peri_fail(err, PERI_E_CORRUPT,
                             "%s: offset %" PRIu64 ": token %u: found %u, expected less than %u",
                             r->name, r->off - 4, i, id, h->n_vocab);
        s->tok[i] = (int32_t)id;
    }
    return PERI_OK;
}

static peri_status read_numbers(peri_reader *r, const head *h, peri_session *s, bool may_wait,
                                peri_error *err) {
    const uint8_t *bytes;
    peri_status st = PERI_OK;
    if (h->flags & FLAG_LOGITS) {
        st = peri_read_bytes(r, "logits", 4 * (uint64_t)h->n_vocab, &bytes, err);
        if (st) return st;
        memcpy(s->logits, bytes, 4 * (size_t)h->n_vocab);
    }
    st = peri_read_bytes(r, "keys and values", h->n_tok * h->token_bytes, &bytes, err);
    if (!st && peri_reader_left(r) != 8)
        st = peri_fail(err, PERI_E_CORRUPT,
                       "%s: offset %" PRIu64 ": found %" PRIu64 " bytes, expected the checksum's 8",
                       r->name, r->off, peri_reader_left(r));
    if (!st) st = peri_session_reserve(s, (int32_t)h->n_tok, err);
    if (st == PERI_E_NOMEM && may_wait)
        return peri_session_put_aside(s, bytes, (int32_t)h->n_tok, err);
    if (st) return st;
    peri_kv_range range = {0, (int32_t)h->n_tok, (int32_t)h->n_tok};
    return peri_kv_import(s->e, s->block, range, bytes, err);
}

static peri_status load(peri_reader *r, peri_session *s, bool may_wait, peri_error *err) {
    head h = {.n_vocab = (uint32_t)s->e->a->n_vocab, .token_bytes = peri_kv_token_bytes(s->e)};
    peri_status st = read_frame(r, &h, err);
    if (!st) st = read_head(r, s->e, &h, err);
    if (!st) st = read_sampler(r, &h, s, err);
    if (!st) st = read_tokens(r, &h, s, err);
    if (!st) st = read_numbers(r, &h, s, may_wait, err);
    if (st) return st;
    s->n_tok = s->n_foreign = (int32_t)h.n_tok;
    s->has_logits = (h.flags & FLAG_LOGITS) && h.n_tok;
    s->want_special = (h.flags & FLAG_SPECIAL) != 0;
    s->stream = h.stream;
    s->n_child = h.n_child;
    s->n_fed = (int32_t)h.n_fed;
    return PERI_OK;
}

peri_status peri_session_load(peri_engine *e, const peri_tokenizer *t, const char *path,
                              const peri_sampling *sampling, bool may_wait, peri_session **out,
                              peri_error *err) {
    peri_mapping *m;
    peri_session *s;
    *out = NULL;
    peri_status st = peri_mapping_open(path, &m, err);
    if (st) return st;
    peri_reader r = {path, peri_mapping_data(m), peri_mapping_size(m), 0};
    st = peri_session_open(e, t, sampling, &s, err);
    if (!st) st = load(&r, s, may_wait, err);
    if (!st && sampling) {
        peri_sampling own = *sampling;
        if (!own.stream) own.stream = s->stream;
        st = peri_session_set_sampling(s, &own, err);
    }
    if (!st) st = peri_mapping_check(m, err);
    peri_mapping_close(m);
    if (st) {
        peri_session_free(s);
        return st;
    }
    *out = s;
    return PERI_OK;
}
