/* SPDX-License-Identifier: MIT
 *
 * gguf_mutate.c - one function per kind of damage.
 *
 * The expectation is computed from the writer's record of fields and from the rules of the format,
 * not from the reader: which record a damaged field belongs to, or which record a cut falls into.
 * Where the damage shifts the parse so that what comes next is chance, the mutant only asks for
 * some offset.
 *
 * A test helper: running out of memory ends the program. */
#include "gguf_mutate.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_base.h"
#include "model/dtype.h"
#include "model/gguf.h"

enum { HEADER_BYTES = 24, MIN_KEY_BYTES = 14, MIN_TENSOR_BYTES = 33, MAX_KEY = 65535 };

const char *const peri_mutant_classes[PERI_N_MUTANT_CLASS] = {
    "G1", "G2",  "G3",  "G4",  "G5",  "G6",  "G7",   "G8",
    "G9", "G10", "G11", "G12", "G13", "G14", "flip", "ok"};

/* ---- the workbench --------------------------------------------------------------------------- */

typedef struct bench {
    peri_mutant *m;
    uint64_t key, n_drawn;
    int arch, variant, shard; /* the shard that is damaged */
    const peri_gguf_base *s;  /* its source */
    peri_text *bytes;         /* its copy */
    int64_t shift;            /* by which offsets behind the splice moved */
    uint64_t shift_from;
} bench;

static uint64_t draw(bench *b, uint64_t n) {
    return gw_random(b->key, b->n_drawn++) % n;
}
#define PICK(b, list) (list)[draw(b, sizeof(list) / sizeof((list)[0]))]

static void choose(bench *b, int variant, int shard) {
    b->variant = variant;
    const peri_gguf_base *s = peri_gguf_base_get(b->arch, variant);
    b->m->is_split = variant == PERI_BASE_SPLIT;
    b->shard = b->m->is_split ? shard : 0;
    b->s = &s[b->shard];
    b->bytes = b->shard ? &b->m->second : &b->m->bytes;
    b->m->bytes.size = b->m->second.size = 0;
    peri_text_add(&b->m->bytes, s[0].file.data, s[0].file.size);
    if (b->m->is_split) peri_text_add(&b->m->second, s[1].file.data, s[1].file.size);
    if (b->m->bytes.failed || b->m->second.failed) abort();
}

static uint64_t get(const bench *b, uint64_t off, size_t bytes) {
    uint64_t v = 0;
    memcpy(&v, b->s->file.data + off, bytes);
    return v;
}

static void put(bench *b, uint64_t off, uint64_t v, size_t bytes) {
    memcpy(b->bytes->data + off, &v, bytes);
}

static void put_field(bench *b, const peri_gguf_field *f, uint64_t v) {
    put(b, f->off, v, f->bytes < 8 ? (size_t)f->bytes : 8);
}

/* A random field of that part; of that name too unless NULL.  Never NULL: every base has them all.
 */
static const peri_gguf_field *pick(bench *b, const char *part, const char *name) {
    const peri_gguf_field *found = NULL;
    uint64_t n = 0;
    for (size_t i = 0; i < b->s->w.n_field; i++) {
        const peri_gguf_field *f = &b->s->w.fields[i];
        if (strcmp(f->part, part) != 0 || (name != NULL && strcmp(f->name, name) != 0)) continue;
        if (draw(b, ++n) == 0) found = f;
    }
    if (found == NULL) abort();
    return found;
}

/* Type of the scalar at a "value" field, or -1 for an array's payload. */
static int scalar_type(const bench *b, const peri_gguf_field *f) {
    return strcmp(f[-1].part, "type") == 0 ? (int)get(b, f[-1].off, 4) : -1;
}

static const peri_gguf_field *pick_scalar(bench *b, int type) {
    const peri_gguf_field *found = NULL;
    uint64_t n = 0;
    for (size_t i = 1; i < b->s->w.n_field; i++) {
        const peri_gguf_field *f = &b->s->w.fields[i];
        if (strcmp(f->part, "value") != 0 || scalar_type(b, f) != type) continue;
        if (strncmp(f->name, "split.", 6) == 0 || strcmp(f->name, "general.alignment") == 0)
            continue;
        if (draw(b, ++n) == 0) found = f;
    }
    if (found == NULL) abort();
    return found;
}

/* End of the infos, which is where the padding before the data starts. */
static uint64_t meta_end(const peri_gguf_base *s) {
    return HEADER_BYTES + s->w.kv.size + s->w.infos.size;
}

static uint64_t data_start(const peri_gguf_base *s) {
    return (meta_end(s) + s->w.alignment - 1) / s->w.alignment * s->w.alignment;
}

/* Replace old_bytes at off by others and move the data to its new aligned place.  Once per mutant.
 */
static void splice(bench *b, uint64_t off, uint64_t old_bytes, const void *data, size_t n) {
    const peri_text *from = &b->s->file;
    uint64_t end = meta_end(b->s), start = data_start(b->s);
    peri_text kept = *b->bytes, out = {0};
    peri_text_add(&out, kept.data, (size_t)off);
    peri_text_add(&out, data, n);
    peri_text_add(&out, kept.data + off + old_bytes, (size_t)(end - off - old_bytes));
    while (out.size % b->s->w.alignment != 0)
        peri_text_add(&out, "", 1);
    peri_text_add(&out, kept.data + start, (size_t)(from->size - start));
    if (out.failed) abort();
    peri_text_fini(b->bytes);
    *b->bytes = out;
    b->shift = (int64_t)n - (int64_t)old_bytes;
    b->shift_from = off + old_bytes;
}

static uint64_t moved(const bench *b, uint64_t off) {
    return b->shift_from != 0 && off >= b->shift_from ? off + (uint64_t)b->shift : off;
}

/* Number of the record among those of its kind, from 1, and whether it is a key. */
static uint64_t number_of(const bench *b, const peri_gguf_field *f, bool *is_key) {
    uint64_t n_key = 0, n_tensor = 0;
    for (const peri_gguf_field *g = b->s->w.fields;; g++) {
        bool is_first = strcmp(g->part, "key_len") == 0;
        bool is_info = strcmp(g->part, "name_len") == 0;
        n_key += is_first;
        n_tensor += is_info;
        if ((is_first || is_info) && g->record_off == f->record_off) {
            *is_key = is_first;
            return is_first ? n_key : n_tensor;
        }
    }
}

static bool is_tensor_part(const char *part) {
    return strncmp(part, "name", 4) == 0 || strcmp(part, "n_dim") == 0 ||
           strcmp(part, "dim") == 0 || strcmp(part, "dtype") == 0 || strcmp(part, "offset") == 0 ||
           strcmp(part, "data") == 0;
}

/* ---- expectations ---------------------------------------------------------------------------- */

static void damaged(bench *b, const peri_gguf_field *f) {
    snprintf(b->m->name, sizeof b->m->name, "%s", f->name);
    b->m->offset = moved(b, f->record_off);
}

/* The reader must name the record of f by its name. */
static void must_name(bench *b, const peri_gguf_field *f) {
    damaged(b, f);
    b->m->must_fail_in_reader = true;
    snprintf(b->m->expect, sizeof b->m->expect, "%s %s at offset %" PRIu64,
             is_tensor_part(f->part) ? "tensor" : "key", f->name, b->m->offset);
}

/* The reader must name the record of f by its number, since the name itself is broken. */
static void must_number(bench *b, const peri_gguf_field *f) {
    bool is_key;
    uint64_t number = number_of(b, f, &is_key);
    uint64_t n = is_key ? b->s->w.n_kv : b->s->w.n_tensor;
    damaged(b, f);
    b->m->must_fail_in_reader = true;
    snprintf(b->m->expect, sizeof b->m->expect,
             "%s %" PRIu64 " of %" PRIu64 " at offset %" PRIu64 ": ", is_key ? "key" : "tensor",
             number, n, b->m->offset);
}

static void must_blame_header(bench *b, uint64_t off) {
    b->m->must_fail_in_reader = true;
    b->m->offset = off;
    snprintf(b->m->expect, sizeof b->m->expect, "header: offset %" PRIu64 ": ", off);
}

static void may_fail_anywhere(bench *b, const peri_gguf_field *f) {
    if (f != NULL) damaged(b, f);
    b->m->may_fail_in_reader = b->m->may_fail_in_model = true;
}

static void may_fail_in_model(bench *b, const peri_gguf_field *f, bool is_name_sure) {
    damaged(b, f);
    b->m->may_fail_in_model = true;
    b->m->is_name_sure = is_name_sure;
}

static void say(bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(bench *b, const char *fmt, ...) {
    va_list ap;
    int n = snprintf(b->m->what, sizeof b->m->what, "%s %s%s: ", peri_base_archs[b->arch],
                     peri_base_names[b->variant], b->shard ? " (second)" : "");
    va_start(ap, fmt);
    vsnprintf(b->m->what + n, sizeof b->m->what - (size_t)n, fmt, ap);
    va_end(ap);
}

/* A random base and shard. */
static void choose_any(bench *b) {
    choose(b, (int)draw(b, PERI_N_BASE), (int)draw(b, 2));
}

/* A random base that is no second shard: it has all keys. */
static void choose_first(bench *b) {
    choose(b, (int)draw(b, PERI_N_BASE), 0);
}

static const uint64_t huge[] = {UINT64_C(1) << 31,      UINT64_C(1) << 32, INT64_MAX,
                                UINT64_C(1) << 63,      UINT64_MAX,        UINT64_MAX - 3,
                                (UINT64_C(1) << 61) + 1};

/* ---- G1 to G4 -------------------------------------------------------------------------------- */

static void g1_wrap(bench *b) {
    static const uint64_t big[] = {INT64_MAX - 63, UINT64_C(1) << 62, UINT64_C(1) << 61,
                                   UINT64_C(1) << 32, UINT64_C(1) << 57};
    choose_any(b);
    const peri_gguf_field *f = pick(b, "dim", NULL);
    if (draw(b, 3) == 0) { /* an offset that wraps round the end of the address space */
        f = pick(b, "offset", f->name);
        put_field(b, f, UINT64_MAX - 31 - 32 * draw(b, 64));
    } else { /* dimensions whose product, or its size in bytes, wraps: or just does not fit */
        uint64_t v = PICK(b, big);
        put_field(b, f, v);
        if (strcmp(f[1].part, "dim") == 0) put_field(b, f + 1, PICK(b, big));
    }
    must_name(b, f);
    say(b, "%s of %s wraps", f->part, f->name);
}

static void g2_counts(bench *b) {
    static const char *const parts[] = {"n_tensor", "n_kv",    "key_len",
                                        "count",    "str_len", "name_len"};
    choose_any(b);
    const char *part = PICK(b, parts);
    if (b->shard && (strcmp(part, "count") == 0 || strcmp(part, "str_len") == 0)) part = "key_len";
    const peri_gguf_field *f = pick(b, part, NULL);
    uint64_t old = get(b, f->off, 8), v = PICK(b, huge);
    bool is_near = draw(b, 3) == 0;
    if (is_near) v = draw(b, 2) ? old + 1 + draw(b, 4) : old - 1;
    put_field(b, f, v);
    say(b, "%s of %s: %" PRIu64 " for %" PRIu64, part, f->name, v, old);
    if (part[0] == 'n' && part[1] == '_' && !is_near)
        must_blame_header(b, f->off);
    else if (is_near)
        may_fail_anywhere(b, f);
    else if (strcmp(part, "key_len") == 0 || strcmp(part, "name_len") == 0)
        must_number(b, f);
    else
        must_name(b, f);
}

static void g3_data(bench *b) {
    choose_any(b);
    const peri_gguf_field *f = pick(b, "offset", NULL), *other = pick(b, "offset", NULL);
    uint64_t old = get(b, f->off, 8), v = 0, size = b->s->file.size;
    switch (draw(b, 4)) {
    case 0: /* past the end */
        v = (size + 32 * draw(b, 1000)) / 32 * 32;
        break;
    case 1: /* far past it */
        v = PICK(b, huge) / 32 * 32;
        break;
    case 2: /* on another tensor */
        v = get(b, other->off, 8);
        if (other == f) v = old + 32;
        break;
    default:
        v = old + 1 + draw(b, 31); /* not aligned */
        break;
    }
    put_field(b, f, v);
    must_name(b, f);
    say(b, "offset of %s: %" PRIu64 " for %" PRIu64, f->name, v, old);
}

static void g4_dims(bench *b) {
    static const uint32_t bad[] = {0, 5, 6, 255, 1u << 31, UINT32_MAX};
    choose_any(b);
    const peri_gguf_field *f = pick(b, "n_dim", NULL);
    uint32_t old = (uint32_t)get(b, f->off, 4);
    if (draw(b, 4) != 0) {
        uint32_t v = PICK(b, bad);
        put_field(b, f, v);
        must_name(b, f);
        say(b, "%s has %u dimensions", f->name, v);
        return;
    }
    put_field(b, f, old % 4 + 1);
    may_fail_anywhere(b, f);
    say(b, "%s has %u dimensions for %u", f->name, old % 4 + 1, old);
}

/* ---- G5 to G8 -------------------------------------------------------------------------------- */

static bool is_arch_key(const bench *b, const char *name) {
    size_t n = strlen(peri_base_archs[b->arch]);
    return strncmp(name, peri_base_archs[b->arch], n) == 0 && name[n] == '.';
}

static void g5_zero(bench *b) {
    static const uint64_t not_positive[] = {0, 0, UINT64_C(1) << 63, UINT64_MAX};
    if (draw(b, 2)) {
        choose_any(b);
        const peri_gguf_field *f = pick(b, "dim", NULL);
        put_field(b, f, PICK(b, not_positive));
        must_name(b, f);
        say(b, "a dimension of %s is not positive", f->name);
        return;
    }
    choose_first(b);
    const peri_gguf_field *f = pick_scalar(b, PERI_GGUF_U32);
    put_field(b, f, 0);
    may_fail_in_model(b, f, is_arch_key(b, f->name) && strstr(f->name, "sliding") == NULL);
    say(b, "%s is 0", f->name);
}

static void g6_alignment(bench *b) {
    static const uint32_t values[] = {0,  1,  2,  3,   4,    8,       13,       16,
                                      24, 33, 64, 128, 4096, 1 << 17, 1u << 31, UINT32_MAX};
    choose(b, 1 + (int)draw(b, PERI_N_BASE - 1), 0);
    if (b->variant == PERI_BASE_SPLIT) choose(b, 1, 0);
    const peri_gguf_field *f = pick(b, "value", "general.alignment");
    if (draw(b, 4) == 0) {
        static const uint32_t types[] = {PERI_GGUF_I32, PERI_GGUF_F32};
        put(b, f[-1].off, PICK(b, types), 4);
        must_name(b, f);
        say(b, "general.alignment is no u32");
        return;
    }
    uint32_t v = PICK(b, values);
    put_field(b, f, v);
    if (v < 8 || v > 65536 || (v & (v - 1)) != 0)
        must_name(b, f);
    else /* tensors move: nearer ones are garbage but whole, others may leave the file */
        may_fail_anywhere(b, NULL);
    say(b, "general.alignment is %u", v);
}

static int width_of(uint32_t type) {
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < 13 ? bytes[type] : 0;
}

static void g7_type(bench *b) {
    static const uint32_t types[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};
    static const uint32_t dtypes[] = {0, 1, 2, 3, 4, 5, 8, 12, 14, 24, 28, 30, 31, 36, 39, 43, 99};
    choose_first(b);
    if (draw(b, 4) == 0) { /* of a tensor */
        const peri_gguf_field *f = pick(b, "dtype", NULL);
        uint32_t type = PICK(b, dtypes);
        put_field(b, f, type);
        if (peri_dtype_get(type) == NULL)
            must_name(b, f);
        else
            may_fail_anywhere(b, f);
        say(b, "type of %s: %u", f->name, type);
        return;
    }
    const peri_gguf_field *f = pick(b, draw(b, 5) ? "type" : "elem_type", NULL);
    uint32_t old = (uint32_t)get(b, f->off, 4), type = PICK(b, types);
    if (type == old) type = 255;
    bool is_element = f->part[0] == 'e';
    bool is_same_width = width_of(old) != 0 && width_of(type) == width_of(old);
    put_field(b, f, type);
    say(b, "%s of %s: %u for %u", f->part, f->name, type, old);
    if (type > 12 || (is_element && type == PERI_GGUF_ARRAY))
        must_name(b, f);
    else if (is_same_width && strcmp(f->name, "general.alignment") == 0)
        must_name(b, f);
    else if (is_same_width && type == PERI_GGUF_BOOL && get(b, f->off + 4, 1) > 1)
        must_name(b, f);
    else if (is_same_width && strncmp(f->name, "split.", 6) == 0 && type == PERI_GGUF_F32)
        must_name(b, f);
    else if (is_same_width && strncmp(f->name, "split.", 6) != 0)
        may_fail_in_model(b, f, true);
    else if (is_same_width)
        b->m->may_fail_in_model = false; /* a split key as i32: the same number */
    else
        may_fail_anywhere(b, f);
}

static void g8_limit(bench *b) {
    static const uint32_t values[] = {1,        2,         3,        513,       65537,
                                      1u << 24, INT32_MAX, 1u << 31, UINT32_MAX};
    choose_first(b);
    const peri_gguf_field *f = pick_scalar(b, PERI_GGUF_U32);
    uint32_t v = PICK(b, values);
    put_field(b, f, v);
    may_fail_in_model(b, f, false);
    say(b, "%s is %u", f->name, v);
}

/* ---- G9, G10 --------------------------------------------------------------------------------- */

static void one_element_less(bench *b, const char *key, uint64_t element_bytes) {
    const peri_gguf_field *count = pick(b, "count", key), *f = pick(b, "value", key);
    put_field(b, count, get(b, count->off, 8) - 1);
    splice(b, f->off + f->bytes - element_bytes, element_bytes, "", 0);
    may_fail_in_model(b, f, true);
    say(b, "%s is one short", key);
}

/* The text of the string at f (its "str" field) becomes another. */
static void replace_string(bench *b, const peri_gguf_field *f, const void *data, size_t n) {
    uint64_t size = n;
    put(b, f->off - 8, size, 8);
    splice(b, f->off, f->bytes, data, n);
}

static void g9_vocabulary(bench *b) {
    static const char tokens[] = "tokenizer.ggml.tokens";
    static const char *const ids[] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                      "tokenizer.ggml.padding_token_id"};
    static const uint32_t bad_ids[] = {300, 301, 65536, INT32_MAX, 1u << 31, UINT32_MAX};
    static char big[MAX_KEY + 1];
    choose_first(b);
    const peri_gguf_field *f = pick(b, "str", tokens), *other = pick(b, "str", tokens);
    switch (draw(b, 7)) {
    case 0:
        replace_string(b, f, b->s->file.data + other->off, (size_t)other->bytes);
        may_fail_in_model(b, f, f != other);
        say(b, "a token twice");
        return;
    case 1:
        replace_string(b, f, "", 0);
        may_fail_in_model(b, f, true);
        say(b, "an empty token");
        return;
    case 2:
        memset(big, 'a', sizeof big);
        replace_string(b, f, big, sizeof big);
        may_fail_in_model(b, f, false);
        say(b, "a token of 64 KiB");
        return;
    case 3:
        f = pick(b, "value", PICK(b, ids));
        put_field(b, f, PICK(b, bad_ids));
        may_fail_in_model(b, f, true);
        say(b, "%s outside the vocabulary", f->name);
        return;
    case 4:
        one_element_less(b, "tokenizer.ggml.token_type", 4);
        return;
    case 5:
        f = pick(b, "value", "tokenizer.ggml.token_type");
        put(b, f->off + 4 * draw(b, 300), PICK(b, bad_ids), 4);
        may_fail_in_model(b, f, true);
        say(b, "an unknown token type");
        return;
    default:
        f = pick(b, "str", "tokenizer.ggml.merges");
        replace_string(b, f, "no such", 7);
        may_fail_in_model(b, f, true);
        say(b, "a merge of no tokens");
        return;
    }
}

static void g10_poison(bench *b) {
    /* NaN, -NaN, inf, -inf, -1, smallest denormal, largest, 0 */
    static const uint32_t poison[] = {0x7fc00000, 0xffc00001, 0x7f800000, 0xff800000,
                                      0xbf800000, 1,          0x7f7fffff, 0};
    choose_first(b);
    uint32_t v = PICK(b, poison);
    if (draw(b, 4) == 0) { /* in a weight */
        const peri_gguf_field *f =
            pick(b, "data", draw(b, 2) ? "blk.0.attn_norm.weight" : "token_embd.weight");
        put(b, f->off + 4 * draw(b, f->bytes / 4), v, 4);
        may_fail_in_model(b, f, true);
        say(b, "%08x in %s", v, f->name);
        return;
    }
    const peri_gguf_field *f = pick_scalar(b, PERI_GGUF_F32);
    put_field(b, f, v);
    may_fail_in_model(b, f, true);
    say(b, "%08x in %s", v, f->name);
}

/* ---- G11, G12 -------------------------------------------------------------------------------- */

/* A key record: name, type, payload. */
static void make_key(peri_text *t, const char *name, size_t name_bytes, uint32_t type,
                     const void *payload, size_t n) {
    uint64_t len = name_bytes;
    peri_text_add(t, &len, 8);
    peri_text_add(t, name, name_bytes);
    peri_text_add(t, &type, 4);
    peri_text_add(t, payload, n);
    if (t->failed) abort();
}

/* Put a key record behind the last one and count it.  Returns its offset. */
static uint64_t append_key(bench *b, const peri_text *record) {
    uint64_t end = HEADER_BYTES + b->s->w.kv.size;
    put(b, 16, b->s->w.n_kv + 1, 8);
    splice(b, end, 0, record->data, record->size);
    return end;
}

static void expect_new_key(bench *b, const char *shown, uint64_t off) {
    b->m->must_fail_in_reader = true;
    b->m->offset = off;
    snprintf(b->m->name, sizeof b->m->name, "%s", shown);
    snprintf(b->m->expect, sizeof b->m->expect, "key %s at offset %" PRIu64 ": ", shown, off);
}

static void rename_record(bench *b, const peri_gguf_field *f, const char *name, size_t n) {
    put(b, f->off - 8, n, 8);
    splice(b, f->off, f->bytes, name, n);
}

static void g11_key_names(bench *b) {
    static char big[MAX_KEY + 1];
    peri_text record = {0};
    const peri_gguf_field *f = pick(b, "key", NULL), *other = f;
    uint64_t off;
    memset(big, 'k', sizeof big);
    switch (draw(b, 5)) {
    case 0: /* one name for two keys: the later record is the one too many */
        while (other->record_off == f->record_off)
            other = pick(b, "key", NULL);
        if (f->record_off < other->record_off) {
            const peri_gguf_field *earlier = f;
            f = other;
            other = earlier;
        }
        rename_record(b, f, other->name, strlen(other->name));
        b->m->must_fail_in_reader = true;
        snprintf(b->m->name, sizeof b->m->name, "%s", other->name);
        b->m->offset = f->record_off;
        snprintf(b->m->expect, sizeof b->m->expect, "key %s at offset %" PRIu64 ": ", other->name,
                 f->record_off);
        say(b, "%s renamed to %s", f->name, other->name);
        break;
    case 1:
        rename_record(b, f, "", 0);
        must_number(b, f);
        say(b, "%s renamed to nothing", f->name);
        break;
    case 2:
        make_key(&record, big, sizeof big, PERI_GGUF_U8, "\1", 1);
        off = append_key(b, &record);
        b->m->must_fail_in_reader = true;
        b->m->offset = off;
        snprintf(b->m->expect, sizeof b->m->expect,
                 "key %" PRIu64 " of %" PRIu64 " at offset %" PRIu64 ": ", b->s->w.n_kv + 1,
                 b->s->w.n_kv + 1, off);
        say(b, "a key of 65,536 bytes");
        break;
    case 3: /* escapes in a name that gets into the message */
        make_key(&record, "\x1b]0;\xffx\n", 7, 77, "\1", 1);
        expect_new_key(b, "\\x1b]0;\\xffx\\x0a", append_key(b, &record));
        say(b, "terminal escapes in a key");
        break;
    default: /* a key goes missing under its name */
        put(b, f->off + draw(b, f->bytes), 'A' + draw(b, 26), 1);
        may_fail_anywhere(b, f); /* general.alignment and split.* are the reader's */
        b->m->is_name_sure = is_arch_key(b, f->name);
        say(b, "%s renamed", f->name);
        break;
    }
    peri_text_fini(&record);
}

static void g11_names(bench *b) {
    static const char long_name[] =
        "a.tensor.name.that.is.one.byte.longer.than.the.limit.of.64.bytes.";
    _Static_assert(sizeof long_name == 66, "65 bytes");
    choose_any(b);
    if (draw(b, 2)) {
        g11_key_names(b);
        return;
    }
    const peri_gguf_field *f = pick(b, "name", NULL), *other = f;
    switch (draw(b, 4)) {
    case 0:
        while (other->record_off == f->record_off)
            other = pick(b, "name", NULL);
        if (f->record_off < other->record_off) {
            const peri_gguf_field *earlier = f;
            f = other;
            other = earlier;
        }
        rename_record(b, f, other->name, strlen(other->name));
        b->m->must_fail_in_reader = true;
        snprintf(b->m->name, sizeof b->m->name, "%s", other->name);
        b->m->offset = f->record_off;
        snprintf(b->m->expect, sizeof b->m->expect, "tensor %s at offset %" PRIu64 ": ",
                 other->name, f->record_off);
        say(b, "tensor %s renamed to %s", f->name, other->name);
        break;
    case 1:
        rename_record(b, f, long_name, sizeof long_name - 1);
        must_number(b, f);
        say(b, "tensor %s has 65 bytes of name", f->name);
        break;
    case 2:
        put(b, f->off + draw(b, f->bytes), 0, 1);
        must_number(b, f);
        say(b, "a NUL in tensor %s", f->name);
        break;
    default:
        put(b, f->off + draw(b, f->bytes), 'A' + draw(b, 26), 1);
        may_fail_in_model(b, f, false); /* the missing or the unknown one is named */
        say(b, "tensor %s renamed", f->name);
        break;
    }
}

static void g12_amplify(bench *b) {
    peri_text record = {0}, payload = {0};
    choose_any(b);
    uint32_t type = (uint32_t)draw(b, 13);
    uint64_t count = draw(b, 2) ? b->s->file.size + 64 + draw(b, 1000000) : PICK(b, huge);
    peri_text_add(&payload, &type, 4);
    peri_text_add(&payload, &count, 8);
    make_key(&record, "x.amplified", 11, PERI_GGUF_ARRAY, payload.data, payload.size);
    expect_new_key(b, "x.amplified", append_key(b, &record));
    say(b, "an array of %" PRIu64 " elements of type %u in nothing", count, type);
    peri_text_fini(&record);
    peri_text_fini(&payload);
}

/* ---- G13, G14 -------------------------------------------------------------------------------- */

/* Which record does a file cut to `size` bytes fail at? */
static void expect_cut(bench *b, uint64_t size) {
    const peri_gguf_writer *w = &b->s->w;
    static const uint64_t header_fields[] = {0, 4, 8, 16, HEADER_BYTES};
    uint64_t room = size < HEADER_BYTES ? 0 : size - HEADER_BYTES;
    for (int i = 0; i < 4; i++) {
        bool is_cut = size < header_fields[i + 1];
        bool is_refused = (i == 2 && w->n_tensor > room / MIN_TENSOR_BYTES) ||
                          (i == 3 && w->n_kv > room / MIN_KEY_BYTES);
        if (!is_cut && !is_refused) continue;
        must_blame_header(b, header_fields[i]);
        return;
    }
    if (size < meta_end(b->s)) { /* the record that the first missing byte belongs to */
        const peri_gguf_field *hit = NULL;
        for (size_t i = 0; i < w->n_field; i++) {
            const peri_gguf_field *f = &w->fields[i];
            if (f->off <= size && size < f->off + f->bytes && f->record_off >= HEADER_BYTES)
                hit = f;
        }
        if (hit == NULL) abort();
        damaged(b, hit);
        b->m->must_fail_in_reader = true;
        snprintf(b->m->expect, sizeof b->m->expect, " at offset %" PRIu64 ": ", hit->record_off);
        return;
    }
    for (size_t i = 0; i < w->n_field; i++) /* the first record whose data is not whole */
        if (strcmp(w->fields[i].part, "data") == 0 &&
            w->fields[i].off + w->fields[i].bytes > size) {
            must_name(b, &w->fields[i]);
            return;
        }
}

static void g13_truncate(bench *b) {
    choose_any(b);
    const peri_gguf_field *f = &b->s->w.fields[draw(b, b->s->w.n_field)];
    uint64_t size = f->off; /* at a border */
    if (draw(b, 3) == 0) size = 1 + draw(b, b->s->file.size - 1);
    if (draw(b, 3) == 0) {
        choose_first(b); /* under the mapping: pages go, opening stays valid */
        b->m->truncate_to = (int64_t)draw(b, b->s->file.size);
        b->m->may_fail_in_model = true;
        say(b, "cut to %" PRId64 " bytes after opening", b->m->truncate_to);
        return;
    }
    if (size == 0) size = 1;
    b->bytes->size = (size_t)size;
    expect_cut(b, size);
    say(b, "cut to %" PRIu64 " bytes", size);
}

static void g14_second_file(bench *b) {
    static const char *const keys[] = {"split.no", "split.count", "split.tensors.count"};
    static const uint32_t values[] = {7, 3, 65535, 1u << 31, UINT32_MAX};
    choose(b, PERI_BASE_SPLIT, (int)draw(b, 2));
    const peri_gguf_field *f;
    switch (draw(b, 4)) {
    case 0:
        f = pick(b, "value", keys[draw(b, b->shard ? 2 : 3)]);
        put_field(b, f, PICK(b, values));
        must_name(b, f);
        say(b, "%s is wrong", f->name);
        return;
    case 1:
        b->m->second.size = 0;
        b->m->must_fail_in_reader = true;
        snprintf(b->m->expect, sizeof b->m->expect, "-00002-of-00002.gguf: cannot open");
        say(b, "the second file is missing");
        return;
    case 2: /* the first file twice */
        choose(b, PERI_BASE_SPLIT, 0);
        b->m->second.size = 0;
        peri_text_add(&b->m->second, b->m->bytes.data, b->m->bytes.size);
        must_name(b, pick(b, "value", "split.no"));
        say(b, "the second file is the first");
        return;
    default: /* a tensor of the first in the second as well */
        choose(b, PERI_BASE_SPLIT, 0);
        f = pick(b, "name", NULL);
        choose(b, PERI_BASE_SPLIT, 1);
        const peri_gguf_field *own = pick(b, "name", NULL);
        rename_record(b, own, f->name, strlen(f->name));
        b->m->must_fail_in_reader = true;
        snprintf(b->m->name, sizeof b->m->name, "%s", f->name);
        b->m->offset = own->record_off;
        snprintf(b->m->expect, sizeof b->m->expect, "tensor %s at offset %" PRIu64 ": ", f->name,
                 own->record_off);
        say(b, "%s in both files", f->name);
        return;
    }
}

static void flip_metadata(bench *b) {
    choose_any(b);
    uint64_t n = 1 + draw(b, 8);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t off = draw(b, meta_end(b->s));
        b->bytes->data[off] = (char)(b->bytes->data[off] ^ (1 << draw(b, 8)));
    }
    may_fail_anywhere(b, NULL);
    say(b, "%" PRIu64 " bits flipped in the metadata", n);
}

/* ---- changes that hurt nobody ---------------------------------------------------------------- */

/* Bits that keep every weight finite and of its size: low mantissa bits, quants, no scales. */
static void ok_weights(bench *b) {
    choose_any(b);
    const peri_gguf_field *f = pick(b, "data", NULL);
    uint32_t dtype = (uint32_t)get(b, f[-2].off, 4);
    const peri_dtype_info *t = peri_dtype_get(dtype);
    uint64_t n = 1 + draw(b, 32);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t block = f->off + draw(b, f->bytes / t->block_bytes) * t->block_bytes, at = block;
        if (t->block_elements > 1) at += 2 + draw(b, t->block_bytes - 2); /* behind the scale */
        b->bytes->data[at] = (char)(b->bytes->data[at] ^ (1 << draw(b, 8)));
    }
    say(b, "%" PRIu64 " bits flipped in %s", n, f->name);
}

static void ok_strings(bench *b) {
    static const char *const keys[] = {"general.name", "general.type"};
    choose_first(b);
    const peri_gguf_field *f = pick(b, "str", PICK(b, keys));
    for (uint64_t i = 0; i < f->bytes; i++)
        put(b, f->off + i, draw(b, 256), 1);
    say(b, "%s is noise", f->name);
}

static void ok_extra_key(bench *b) {
    static char name[MAX_KEY];
    static const char *const names[] = {"x.extra", "x.\x1b[2J\xff", "\xc3\xa9.\xe2\x82\xac", "0"};
    peri_text record = {0}, payload = {0};
    choose_any(b);
    uint32_t type = (uint32_t)draw(b, 13), element = 0;
    uint64_t count = 1, noise = draw(b, 1u << 31);
    if (type == PERI_GGUF_ARRAY) {
        element = (uint32_t)draw(b, 13);
        if (element == PERI_GGUF_ARRAY) element = PERI_GGUF_STRING;
        count = draw(b, 20);
        peri_text_add(&payload, &element, 4);
        peri_text_add(&payload, &count, 8);
    } else {
        element = type;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t v = element == PERI_GGUF_BOOL ? noise >> i & 1 : noise, len = v % 40;
        peri_text_add(&payload, element == PERI_GGUF_STRING ? &len : &v,
                      element == PERI_GGUF_STRING ? 8 : (size_t)width_of(element));
        if (element == PERI_GGUF_STRING) peri_text_add(&payload, name, (size_t)len);
    }
    if (draw(b, 8) == 0) {
        memset(name, 'n', sizeof name);
        make_key(&record, name, sizeof name, type, payload.data, payload.size);
    } else {
        const char *chosen = PICK(b, names);
        make_key(&record, chosen, strlen(chosen), type, payload.data, payload.size);
    }
    append_key(b, &record);
    say(b, "an unknown key of type %u", type);
    peri_text_fini(&record);
    peri_text_fini(&payload);
}

static void ok_layout(bench *b) {
    choose_any(b);
    const peri_gguf_field *f = pick(b, "offset", NULL), *g = pick(b, "offset", NULL);
    switch (draw(b, 3)) {
    case 0:
        put(b, 4, b->s->w.version == 2 ? 3 : 2, 4);
        say(b, "the other version number");
        return;
    case 1: /* two tensors of one size change places */
        if (strcmp(f[1].part, "data") == 0 && strcmp(g[1].part, "data") == 0 &&
            f[1].bytes == g[1].bytes && get(b, f[-1].off, 4) == get(b, g[-1].off, 4)) {
            put_field(b, f, get(b, g->off, 8));
            put_field(b, g, get(b, f->off, 8));
        }
        say(b, "%s and %s change places", f->name, g->name);
        return;
    default:
        for (uint64_t n = 1 + draw(b, 5000); n > 0; n--)
            peri_text_add(b->bytes, "x", 1);
        if (b->bytes->failed) abort();
        say(b, "bytes behind the last tensor");
        return;
    }
}

/* Two neighbouring key records change places. */
static void ok_order(bench *b) {
    choose_first(b);
    const peri_gguf_field *end = b->s->w.fields + b->s->w.n_field;
    const peri_gguf_field *first = pick(b, "key_len", NULL), *second = first + 1, *third;
    while (second < end && strcmp(second->part, "key_len") != 0 && !is_tensor_part(second->part))
        second++;
    say(b, "%s after its neighbour", first->name);
    if (second == end || is_tensor_part(second->part)) return; /* it was the last key */
    for (third = second + 1; third < end && strcmp(third->part, "key_len") != 0; third++)
        if (is_tensor_part(third->part)) break;
    uint64_t n = second->off - first->off, total = third->off - first->off;
    memcpy(b->bytes->data + first->off, b->s->file.data + second->off, (size_t)(total - n));
    memcpy(b->bytes->data + first->off + (total - n), b->s->file.data + first->off, (size_t)n);
}

static void ok_numbers(bench *b) {
    choose_first(b);
    const peri_gguf_field *f = pick_scalar(b, PERI_GGUF_F32);
    uint64_t bits = get(b, f->off, 4);
    put_field(b, f, bits ^ (1 + draw(b, 1u << 22))); /* mantissa: at most half as much again */
    say(b, "%s a little different", f->name);
}

/* ---- choice ---------------------------------------------------------------------------------- */

static const struct {
    const char *class_name;
    void (*make)(bench *b);
    uint32_t weight;
} kinds[] = {
    {"G1", g1_wrap, 5},       {"G2", g2_counts, 8},        {"G3", g3_data, 6},
    {"G4", g4_dims, 3},       {"G5", g5_zero, 5},          {"G6", g6_alignment, 4},
    {"G7", g7_type, 8},       {"G8", g8_limit, 4},         {"G9", g9_vocabulary, 5},
    {"G10", g10_poison, 4},   {"G11", g11_names, 6},       {"G12", g12_amplify, 3},
    {"G13", g13_truncate, 6}, {"G14", g14_second_file, 3}, {"flip", flip_metadata, 4},
    {"ok", ok_weights, 8},    {"ok", ok_strings, 6},       {"ok", ok_extra_key, 8},
    {"ok", ok_layout, 6},     {"ok", ok_order, 4},         {"ok", ok_numbers, 4},
};

void peri_mutant_make(uint64_t seed, uint64_t index, peri_mutant *m) {
    *m = (peri_mutant){.truncate_to = -1};
    bench b = {.m = m, .key = gw_random(gw_random(seed, 0), index)};
    uint64_t total = 0, at;
    size_t i = 0;
    b.arch = (int)draw(&b, PERI_N_BASE_ARCH);
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        total += kinds[k].weight;
    for (at = draw(&b, total); at >= kinds[i].weight; i++)
        at -= kinds[i].weight;
    snprintf(m->class_name, sizeof m->class_name, "%s", kinds[i].class_name);
    kinds[i].make(&b);
}

void peri_mutant_cache_free(void) {
    peri_gguf_bases_free();
}

void peri_mutant_free(peri_mutant *m) {
    peri_text_fini(&m->bytes);
    peri_text_fini(&m->second);
}

const char *peri_mutant_judge_reader(const peri_mutant *m, peri_status status,
                                     const peri_error *err) {
    if (status == PERI_OK)
        return m->must_fail_in_reader ? "the reader took it, expected a refusal" : NULL;
    if (!m->must_fail_in_reader && !m->may_fail_in_reader)
        return "the reader refused it, expected it to open";
    for (const char *p = err->text; *p != 0; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) return "a control byte in the message";
    if (m->expect[0] != 0 && strstr(err->text, m->expect) == NULL)
        return "the message names another place than expected";
    if (m->expect[0] == 0 && strstr(err->text, "offset ") == NULL)
        return "the message names no offset";
    if (status != PERI_E_CORRUPT && status != PERI_E_UNSUPPORTED && status != PERI_E_NOT_FOUND)
        return "the status is neither CORRUPT, UNSUPPORTED nor NOT_FOUND";
    return NULL;
}
