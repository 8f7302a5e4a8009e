/* SPDX-License-Identifier: MIT
 *
 * sampler_save.c - a sampler as bytes, little-endian, and back.
 *
 *   "PSMP" u32 version: 1 without policies, else 2
 *   u32 n, then n parameters: u8 length, name, u32 bits of the float or integer
 *   u64 seed, u64 stream
 *   i32 n_order, u8 link each
 *   u32 n_bias, i32 id and f32 bias each
 *   i32 n_breaker (-1: the usual ones), u32 length and text each
 *   i32 n_tok, u32 size and text to heal
 *   u32 n_seen, i32 token each
 *   u32 n_record, i32 n_tok, f32 a, f32 b each
 *   version 2: u32 n_policy, u32 length and bytes of name, text, settings each - before the order;
 *   at the end u32 n, then what they kept: i32 n_tok, u32 length and bytes each
 *
 *   with a grammar: u32 n, i32 token and i32 begin of its text each (-1: it was fed)
 *
 * Parameters go by name, so a table with more or fewer of them still reads what it knows; a name it
 * does not know is an error, as the text would go on differently. */
#include <math.h>
#include <string.h>

#include "base/status.h"
#include "run/sampler_int.h"

#include "base/compiler.h"

enum { VERSION = 1, VERSION_POLICY = 2, VERSION_GRAMMAR = 3, MAX_SIZE = 1 << 24 };

static void put_u32(peri_text *t, uint32_t x) {
    const uint8_t b[4] = {(uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16), (uint8_t)(x >> 24)};
    peri_text_add(t, b, sizeof b);
}

static void put_u64(peri_text *t, uint64_t x) {
    put_u32(t, (uint32_t)x);
    put_u32(t, (uint32_t)(x >> 32));
}

static void put_f32(peri_text *t, float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    put_u32(t, u);
}

static void put_bytes(peri_text *t, const void *data, size_t n) {
    put_u32(t, (uint32_t)n);
    peri_text_add(t, data, n);
}

static void put_policies(peri_text *t, const peri_sampling *p) {
    put_u32(t, (uint32_t)p->n_policy);
    for (size_t i = 0; i < p->n_policy; i++) {
        put_bytes(t, p->policy[i].name, strlen(p->policy[i].name));
        put_bytes(t, p->policy[i].text.data, p->policy[i].text.size);
        put_bytes(t, p->policy[i].given.data, p->policy[i].given.size);
    }
}

static void put_kept(peri_text *t, const smp_kept *s, int32_t n_tok) {
    size_t n = 0;
    uint32_t from = 0;
    while (n < s->n && s->at[n].n_tok <= n_tok)
        n++;
    put_u32(t, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        put_u32(t, (uint32_t)s->at[i].n_tok);
        put_bytes(t, s->bytes.data + from, s->at[i].end - from);
        from = s->at[i].end;
    }
}

static void put_grammar(peri_text *t, const peri_sampling *p) {
    put_bytes(t, p->grammar.data, p->grammar.size);
    put_u32(t, (uint32_t)p->n_trigger);
    for (size_t i = 0; i < p->n_trigger; i++)
        put_bytes(t, p->trigger[i], strlen(p->trigger[i]));
}

static void put_chosen(peri_text *t, const smp_text *s, int32_t n_tok) {
    int32_t n = s->n < n_tok ? s->n : n_tok;
    put_u32(t, (uint32_t)n);
    for (int32_t i = 0; i < n; i++) {
        put_u32(t, (uint32_t)s->tok[i]);
        put_u32(t, (uint32_t)s->from[i]);
    }
}

static void put_params(peri_text *t, const peri_sampling *p) {
    put_u32(t, (uint32_t)peri_sampling_n_param);
    for (size_t i = 0; i < peri_sampling_n_param; i++) {
        const peri_sampling_param *q = &peri_sampling_params[i];
        uint8_t n = (uint8_t)strlen(q->name);
        uint32_t bits;
        peri_text_add(t, &n, 1);
        peri_text_add(t, q->name, n);
        memcpy(&bits, (const char *)p + q->off, sizeof bits);
        put_u32(t, bits);
    }
    put_u64(t, p->seed);
    put_u64(t, p->stream);
    if (p->n_policy || p->grammar.size) put_policies(t, p);
    if (p->grammar.size) put_grammar(t, p);
    put_u32(t, (uint32_t)p->n_order);
    for (int i = 0; i < p->n_order; i++)
        peri_text_add(t, &p->order[i], 1);
    put_u32(t, (uint32_t)p->n_bias);
    for (size_t i = 0; i < p->n_bias; i++) {
        put_u32(t, (uint32_t)p->bias[i].id);
        put_f32(t, p->bias[i].bias);
    }
    put_u32(t, p->breaker ? (uint32_t)p->n_breaker : UINT32_MAX);
    for (size_t i = 0; i < p->n_breaker && p->breaker; i++) {
        put_u32(t, (uint32_t)strlen(p->breaker[i]));
        peri_text_add_str(t, p->breaker[i]);
    }
}

peri_status peri_sampler_save(const peri_sampler *s, int32_t n_tok, peri_text *out,
                              peri_error *err) {
    int32_t n_seen = s->n_seen < n_tok ? s->n_seen : n_tok, n_record = 0;
    peri_text_add(out, "PSMP", 4);
    put_u32(out, s->p.grammar.size ? VERSION_GRAMMAR : s->p.n_policy ? VERSION_POLICY : VERSION);
    put_params(out, &s->p);
    put_u32(out, (uint32_t)s->heal.n_tok);
    put_u32(out, s->heal.size);
    peri_text_add(out, s->heal.text, s->heal.size);
    put_u32(out, (uint32_t)n_seen);
    for (int32_t i = 0; i < n_seen; i++)
        put_u32(out, (uint32_t)s->seen[i]);
    while (n_record < s->n_record && s->record[n_record].n_tok <= n_seen)
        n_record++;
    put_u32(out, (uint32_t)n_record);
    for (int32_t i = 0; i < n_record; i++) {
        put_u32(out, (uint32_t)s->record[i].n_tok);
        put_f32(out, s->record[i].a);
        put_f32(out, s->record[i].b);
    }
    if (s->p.n_policy) put_kept(out, &s->kept, n_seen);
    if (s->grammar) put_chosen(out, &s->text, n_tok);
    return out->failed ? peri_fail(err, PERI_E_NOMEM, "out of memory to save a sampler") : PERI_OK;
}

/* ---- back ------------------------------------------------------------------------------------ */

/* Reads, and remembers the first failure. */
typedef struct source {
    peri_reader *r;
    peri_status st;
    peri_error *err;
} source;

static uint32_t get_u32(source *f, const char *what) {
    uint32_t x = 0;
    if (!f->st) f->st = peri_read_u32(f->r, what, &x, f->err);
    return x;
}

static uint64_t get_u64(source *f, const char *what) {
    uint64_t x = 0;
    if (!f->st) f->st = peri_read_u64(f->r, what, &x, f->err);
    return x;
}

static float get_f32(source *f, const char *what) {
    uint32_t u = get_u32(f, what);
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static const uint8_t *get_bytes(source *f, const char *what, uint64_t n) {
    const uint8_t *b = NULL;
    if (!f->st) f->st = peri_read_bytes(f->r, what, n, &b, f->err);
    return b;
}

/* A count of things that take at least `size` bytes each of what is left. */
static uint32_t get_count(source *f, const char *what, uint64_t most, uint64_t size) {
    uint32_t n = get_u32(f, what);
    if (f->st) return 0;
    if (n > most || n * size > peri_reader_left(f->r))
        f->st = peri_fail(f->err, PERI_E_CORRUPT, "%s: offset %llu: %s: found %u, too many",
                          f->r->name, (unsigned long long)f->r->off, what, n);
    return f->st ? 0 : n;
}

static void get_param(source *f, peri_sampling *p) {
    char name[64] = "";
    uint8_t n = 0;
    if (!f->st) f->st = peri_read_u8(f->r, "parameter name", &n, f->err);
    const uint8_t *b = get_bytes(f, "parameter name", n < sizeof name ? n : 0);
    uint32_t bits = get_u32(f, "parameter value");
    if (f->st) return;
    if (n < sizeof name) memcpy(name, b, n);
    int i = peri_sampling_find(name);
    if (i < 0)
        f->st = peri_fail(f->err, PERI_E_CORRUPT, "%s: sampling parameter \"%s\" is not known here",
                          f->r->name, name);
    else
        memcpy((char *)p + peri_sampling_params[i].off, &bits, sizeof bits);
}

static void get_lists(source *f, peri_sampling *p, peri_arena *a) {
    peri_logit_bias *bias = NULL;
    const char **breaker = NULL;
    uint32_t n = get_count(f, "biases", PERI_MAX_BIAS, 8);
    if (!f->st && n && !(bias = peri_arena_alloc(a, n, sizeof *bias)))
        f->st = peri_fail(f->err, PERI_E_NOMEM, "out of memory for %u biases", n);
    for (uint32_t i = 0; i < n && !f->st; i++) {
        bias[i].id = (int32_t)get_u32(f, "bias");
        bias[i].bias = get_f32(f, "bias");
    }
    p->bias = bias;
    p->n_bias = f->st ? 0 : n;
    n = get_u32(f, "sequence breakers");
    if (f->st || n == UINT32_MAX) return;
    if (n > PERI_MAX_BREAKER) {
        f->st = peri_fail(f->err, PERI_E_CORRUPT, "%s: found %u sequence breakers, at most %d",
                          f->r->name, n, PERI_MAX_BREAKER);
        return;
    }
    if (!(breaker = peri_arena_alloc(a, n + 1, sizeof *breaker)))
        f->st = peri_fail(f->err, PERI_E_NOMEM, "out of memory for %u sequence breakers", n);
    for (uint32_t i = 0; i < n && !f->st; i++) {
        uint32_t size = get_count(f, "sequence breaker", MAX_SIZE, 1);
        const uint8_t *b = get_bytes(f, "sequence breaker", size);
        if (f->st) return;
        breaker[i] = peri_arena_str(a, (peri_str){(const char *)b, size}).data;
        if (!breaker[i])
            f->st = peri_fail(f->err, PERI_E_NOMEM, "out of memory for a sequence breaker");
    }
    p->breaker = breaker;
    p->n_breaker = f->st ? 0 : n;
}

/* A length and so many bytes, in the arena with a zero behind them. */
static peri_str get_text(source *f, const char *what, uint64_t most, peri_arena *a) {
    uint32_t n = get_count(f, what, most, 1);
    const uint8_t *b = get_bytes(f, what, n);
    if (f->st) return (peri_str){NULL, 0};
    peri_str s = peri_arena_str(a, (peri_str){(const char *)b, n});
    if (!s.data) f->st = peri_fail(f->err, PERI_E_NOMEM, "out of memory for a sampling policy");
    return s;
}

static void get_policies(source *f, peri_sampling *p, peri_arena *a) {
    uint32_t n = get_count(f, "policies", PERI_MAX_POLICY, 12);
    peri_policy_text *policy = f->st ? NULL : peri_arena_alloc(a, n + 1, sizeof *policy);
    if (!f->st && !policy)
        f->st = peri_fail(f->err, PERI_E_NOMEM, "out of memory for sampling policies");
    for (uint32_t i = 0; i < n && !f->st; i++) {
        policy[i].name = get_text(f, "name of a policy", 4096, a).data;
        policy[i].text = get_text(f, "text of a policy", PERI_MAX_POLICY_BYTES, a);
        policy[i].given = get_text(f, "settings of a policy", PERI_MAX_POLICY_BYTES, a);
    }
    p->policy = policy;
    p->n_policy = f->st ? 0 : n;
}

static void get_grammar(source *f, peri_sampling *p, peri_arena *a) {
    p->grammar = get_text(f, "grammar", PERI_GRAMMAR_BYTES, a);
    uint32_t n = get_count(f, "triggers", PERI_GRAMMAR_TRIGGERS, 4);
    const char **trigger = f->st ? NULL : peri_arena_alloc(a, n + 1, sizeof *trigger);
    if (!f->st && !trigger) f->st = peri_fail(f->err, PERI_E_NOMEM, "out of memory for triggers");
    for (uint32_t i = 0; i < n && !f->st; i++)
        trigger[i] = get_text(f, "trigger", PERI_GRAMMAR_TRIGGER_BYTES, a).data;
    p->trigger = trigger;
    p->n_trigger = f->st ? 0 : n;
}

static void get_chosen(source *f, peri_sampler *s, int32_t n_tok) {
    int32_t most = n_tok < s->text.room - 2 ? n_tok : s->text.room - 2;
    uint32_t n = get_count(f, "tokens chosen", (uint64_t)(most > 0 ? most : 0), 8);
    for (uint32_t i = 0; i < n && !f->st; i++) {
        int32_t tok = (int32_t)get_u32(f, "token chosen");
        int32_t from = (int32_t)get_u32(f, "token chosen");
        int32_t before = i ? s->text.from[i - 1] : -1;
        bool is_right = from == -1 || from == (int32_t)i || (before >= 0 && from == before);
        if (!f->st && !is_right)
            f->st = peri_fail(f->err, PERI_E_CORRUPT,
                              "%s: token %u was chosen for a text that begins at %d", f->r->name, i,
                              from);
        if (f->st) return;
        s->text.tok[i] = tok;
        s->text.from[i] = from;
        s->text.n = (int32_t)i + 1;
    }
}

static void get_kept(source *f, peri_sampler *s) {
    uint32_t n = get_count(f, "state of policies", (uint64_t)s->n_seen, 8);
    int32_t before = 0;
    for (uint32_t i = 0; i < n && !f->st; i++) {
        int32_t at = (int32_t)get_u32(f, "state of policies");
        uint32_t size = get_count(f, "state of policies", PERI_POLICY_LOG, 1);
        const uint8_t *b = get_bytes(f, "state of policies", size);
        if (!f->st && (at <= before || at > s->n_seen))
            f->st = peri_fail(f->err, PERI_E_CORRUPT, "%s: state of a policy at position %d",
                              f->r->name, at);
        if (!f->st) f->st = smp_kept_add(&s->kept, at, b, size, f->err);
        before = at;
    }
}

static void get_params(source *f, peri_sampling *p, peri_arena *a) {
    const uint8_t *magic = get_bytes(f, "sampler", 4);
    if (!f->st && (memcmp(magic, "PSMP", 4) != 0))
        f->st = peri_fail(f->err, PERI_E_CORRUPT, "%s: no sampler here", f->r->name);
    uint32_t version = get_u32(f, "sampler version");
    if (!f->st && (version < VERSION || version > VERSION_GRAMMAR))
        f->st = peri_fail(f->err, PERI_E_UNSUPPORTED, "%s: sampler version %u, expected %d to %d",
                          f->r->name, version, VERSION, VERSION_GRAMMAR);
    uint32_t n = get_count(f, "sampling parameters", 1000, 5);
    for (uint32_t i = 0; i < n && !f->st; i++)
        get_param(f, p);
    p->seed = get_u64(f, "seed");
    p->stream = get_u64(f, "stream");
    if (!f->st && version >= VERSION_POLICY) get_policies(f, p, a);
    if (!f->st && version == VERSION_GRAMMAR) get_grammar(f, p, a);
    p->n_order = (int32_t)get_u32(f, "samplers");
    if (!f->st && p->n_order > PERI_MAX_ORDER)
        f->st = peri_fail(f->err, PERI_E_CORRUPT, "%s: found %d samplers, at most %d", f->r->name,
                          p->n_order, PERI_MAX_ORDER);
    const uint8_t *b = get_bytes(f, "samplers", p->n_order > 0 ? (uint64_t)p->n_order : 0);
    if (!f->st && p->n_order > 0) memcpy(p->order, b, (size_t)p->n_order);
    get_lists(f, p, a);
}

static void get_heal(source *f, peri_sampler *s, int32_t n_tok) {
    int32_t at = (int32_t)get_u32(f, "healing");
    uint32_t size = get_count(f, "text to heal", PERI_HEAL_BYTES, 1);
    const uint8_t *b = get_bytes(f, "text to heal", size);
    if (f->st || !size) return;
    if (at < 0 || at > n_tok)
        f->st = peri_fail(f->err, PERI_E_CORRUPT, "%s: healing from %d of %d tokens", f->r->name,
                          at, n_tok);
    else
        f->st = peri_sampler_heal(s, at, (const char *)b, size, f->err);
}

static void get_records(source *f, peri_sampler *s, int32_t n_tok) {
    uint64_t most = s->record ? (uint64_t)(n_tok < s->room - 2 ? n_tok : s->room - 2) : 0;
    uint32_t n = get_count(f, "history of the sampler", most, 4);
    for (uint32_t i = 0; i < n && !f->st; i++)
        s->seen[i] = (int32_t)get_u32(f, "history of the sampler");
    s->n_seen = f->st ? 0 : (int32_t)n;
    n = get_count(f, "records of the sampler", most, 12);
    for (uint32_t i = 0; i < n && !f->st; i++) {
        smp_record r = {.n_tok = (int32_t)get_u32(f, "record")};
        r.a = get_f32(f, "record");
        r.b = get_f32(f, "record");
        int32_t before = i ? s->record[i - 1].n_tok : -1;
        if (!f->st && (r.n_tok <= before || r.n_tok > s->n_seen || !isfinite(r.a) ||
                       !isfinite(r.b) || (!s->p.mirostat && !(r.b > 0))))
            f->st = peri_fail(f->err, PERI_E_CORRUPT,
                              "%s: record %u of the sampler: found position %d with %g and %g",
                              f->r->name, i, r.n_tok, (double)r.a, (double)r.b);
        if (f->st) return;
        s->record[i] = r;
        s->n_record = (int32_t)i + 1;
    }
}

peri_status peri_sampler_restore(peri_reader *r, const peri_sampler_vocab *v, int32_t n_tok,
                                 peri_sampler **out, peri_error *err) {
    peri_sampling p;
    source f = {.r = r, .err = err};
    *out = NULL;
    peri_arena *a = peri_arena_new();
    f.st = a ? peri_sampling_init(&p, PERI_ORIGIN_OFF, NULL, err)
             : peri_fail(err, PERI_E_NOMEM, "out of memory to restore a sampler");
    if (!f.st) get_params(&f, &p, a);
    if (!f.st) f.st = peri_sampler_new(&p, v, out, err);
    peri_arena_free(a);
    if (!f.st) get_heal(&f, *out, n_tok);
    if (!f.st) get_records(&f, *out, n_tok);
    if (!f.st && p.n_policy) get_kept(&f, *out);
    if (!f.st && p.grammar.size) get_chosen(&f, *out, n_tok);
    if (f.st) {
        peri_sampler_free(*out);
        *out = NULL;
    }
    return f.st;
}
