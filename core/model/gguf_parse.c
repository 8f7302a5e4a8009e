/* SPDX-License-Identifier: MIT
 *
 * gguf_parse.c - one GGUF file from bytes to checked tables.
 *
 * Nothing in the file is believed.  Each count and length is compared with the bytes left before
 * anything is allocated for it, so that a file of N bytes never costs more than 4 N + 16 MB: a key
 * takes at least 14 bytes in the file and 64 here, a tensor 33 and 96, an array string 8 and 16,
 * and the caps on keys and tensors keep the small excess below 16 MB.  All arithmetic on sizes is
 * checked.
 *
 * Messages: a field that does not fit its record is reported against that record, by name once the
 * name was read and by number before; "header" stands for the first 24 bytes.
 *
 * Read it from peri_gguf_parse at the end upwards.  Source of the format: ggml-org/ggml
 * docs/gguf.md. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/reader.h"
#include "base/sort.h"
#include "base/status.h"
#include "model/dtype.h"
#include "model/gguf_int.h"

#include "base/compiler.h"

enum {
    HEADER_BYTES = 24,
    MIN_KEY_BYTES = 8 + 1 + 4 + 1,            /* length, one letter, type, one byte of value */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* length, one letter, count, one dim, type, offset */
    MIN_STRING_BYTES = 8,                     /* its length */
    MIN_SHOWN = 33,
    MAX_SHOWN = 126 /* magic bytes shown as letters */
};

/* The record being read, for messages. */
typedef struct parser {
    peri_reader r;
    peri_gguf_shard *shard;
    peri_arena *arena;
    peri_error *err;
    const char *kind;   /* NULL in the header, else "key" or "tensor" */
    uint64_t i, n, off; /* number of the record, how many there are, where it starts */
    peri_str name;      /* data is NULL until it was read */
} parser;

/* ---- messages -------------------------------------------------------------------------------- */

static peri_status vreject(parser *p, peri_status code, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));
static peri_status reject(parser *p, peri_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static peri_status vreject(parser *p, peri_status code, const char *fmt, va_list ap) {
    char text[sizeof p->err->text];
    const char *file = p->shard->name;
    if (p->err == NULL) return code;
    vsnprintf(text, sizeof text, fmt, ap);
    if (p->kind == NULL)
        return peri_fail(p->err, code, "%s: header: offset %" PRIu64 ": %s", file, p->off, text);
    if (p->name.data == NULL)
        return peri_fail(p->err, code,
                         "%s: %s %" PRIu64 " of %" PRIu64 " at offset %" PRIu64 ": %s", file,
                         p->kind, p->i + 1, p->n, p->off, text);
    char name[PERI_GGUF_SHOWN + 1];
    peri_gguf_show(name, p->name);
    return peri_fail(p->err, code, "%s: %s %s at offset %" PRIu64 ": %s", file, p->kind, name,
                     p->off, text);
}

static peri_status reject(parser *p, peri_status code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vreject(p, code, fmt, ap);
    va_end(ap);
    return code;
}

static peri_status no_memory(parser *p, const char *what) {
    return reject(p, PERI_E_NOMEM, "out of memory for %s", what);
}

static peri_status cut_short(parser *p, const char *what, uint64_t need) {
    return reject(p, PERI_E_CORRUPT, "%s: found %" PRIu64 " bytes left, expected at least %" PRIu64,
                  what, peri_reader_left(&p->r), need);
}

static peri_status read_u32(parser *p, const char *what, uint32_t *out) {
    return peri_read_u32(&p->r, what, out, NULL) == PERI_OK ? PERI_OK : cut_short(p, what, 4);
}

static peri_status read_u64(parser *p, const char *what, uint64_t *out) {
    return peri_read_u64(&p->r, what, out, NULL) == PERI_OK ? PERI_OK : cut_short(p, what, 8);
}

static peri_status read_bytes(parser *p, const char *what, uint64_t n, const uint8_t **out) {
    return peri_read_bytes(&p->r, what, n, out, NULL) == PERI_OK ? PERI_OK : cut_short(p, what, n);
}

/* The name of a record: 1..max bytes, none of them NUL (C callers could not ask for it). */
static peri_status read_name(parser *p, uint64_t max) {
    uint64_t n = 0;
    const uint8_t *bytes = NULL;
    peri_status status = read_u64(p, "name length", &n);
    if (status != PERI_OK) return status;
    if (n == 0 || n > max)
        return reject(p, PERI_E_CORRUPT, "name length: found %" PRIu64 ", expected 1..%" PRIu64, n,
                      max);
    status = read_bytes(p, "name", n, &bytes);
    if (status != PERI_OK) return status;
    if (memchr(bytes, 0, (size_t)n) != NULL)
        return reject(p, PERI_E_CORRUPT, "name: found a NUL byte in it, expected text");
    p->name = (peri_str){(const char *)bytes, (size_t)n};
    return PERI_OK;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static peri_status read_string(parser *p, peri_str *out) {
    uint64_t n = 0;
    const uint8_t *bytes = NULL;
    peri_status status = read_u64(p, "string length", &n);
    if (status == PERI_OK) status = read_bytes(p, "string", n, &bytes);
    if (status == PERI_OK) *out = (peri_str){(const char *)bytes, (size_t)n};
    return status;
}

static peri_status read_strings(parser *p, peri_gguf_value *v) {
    peri_str *s = NULL;
    if (v->n > peri_reader_left(&p->r) / MIN_STRING_BYTES)
        return reject(p, PERI_E_CORRUPT,
                      "found %" PRIu64 " strings, expected at most %" PRIu64 " (%" PRIu64
                      " bytes are left)",
                      v->n, peri_reader_left(&p->r) / MIN_STRING_BYTES, peri_reader_left(&p->r));
    s = peri_arena_alloc(p->arena, (size_t)v->n, sizeof *s);
    if (s == NULL) return no_memory(p, "its strings");
    v->strings = s;
    for (uint64_t i = 0; i < v->n; i++) {
        peri_status status = read_string(p, &s[i]);
        if (status != PERI_OK) return status;
    }
    return PERI_OK;
}

static peri_status read_payload(parser *p, peri_gguf_value *v) {
    uint64_t bytes = 0, each = peri_gguf_type_bytes(v->type);
    if (v->type == PERI_GGUF_STRING) return read_strings(p, v);
    if (!peri_mul_u64(v->n, each, &bytes) || bytes > peri_reader_left(&p->r))
        return reject(p, PERI_E_CORRUPT,
                      "found %" PRIu64 " elements of %s, expected at most %" PRIu64 " (%" PRIu64
                      " bytes are left)",
                      v->n, peri_gguf_type_name(v->type), peri_reader_left(&p->r) / each,
                      peri_reader_left(&p->r));
    peri_status status = read_bytes(p, "value", bytes, &v->data);
    if (status != PERI_OK || v->type != PERI_GGUF_BOOL) return status;
    for (uint64_t i = 0; i < v->n; i++)
        if (v->data[i] > 1)
            return reject(p, PERI_E_CORRUPT,
                          "found %d as element %" PRIu64 " of a bool, expected 0 or 1", v->data[i],
                          i);
    return PERI_OK;
}

static peri_status read_key(parser *p, peri_gguf_value *v) {
    uint32_t type = 0;
    peri_status status = read_name(p, PERI_GGUF_MAX_KEY);
    if (status == PERI_OK) status = read_u32(p, "type", &type);
    if (status != PERI_OK) return status;
    v->n = 1;
    if (type == PERI_GGUF_ARRAY) {
        v->is_array = true;
        status = read_u32(p, "element type", &type);
        if (status == PERI_OK) status = read_u64(p, "element count", &v->n);
        if (status != PERI_OK) return status;
        if (type == PERI_GGUF_ARRAY)
            return reject(p, PERI_E_UNSUPPORTED,
                          "found an array of arrays, expected an array of plain values");
    }
    if (type > PERI_GGUF_F64)
        return reject(p, PERI_E_CORRUPT, "found %stype %" PRIu32 ", expected 0..%d",
                      v->is_array ? "element " : "", type, (int)PERI_GGUF_F64);
    v->key = p->name;
    v->off = p->off;
    v->type = (peri_gguf_type)type;
    return read_payload(p, v);
}

static bool key_less(const void *user, uint32_t a, uint32_t b) {
    const peri_gguf_value *v = user;
    return peri_gguf_compare(v[a].key, v[b].key) < 0;
}

static peri_status index_keys(parser *p) {
    peri_gguf_shard *s = p->shard;
    uint64_t twice = UINT64_MAX, first = 0;
    s->by_key = peri_arena_alloc(p->arena, (size_t)s->n_value, sizeof *s->by_key);
    if (s->by_key == NULL) return no_memory(p, "an index of the keys");
    for (uint32_t i = 0; i < s->n_value; i++)
        s->by_key[i] = i;
    if (peri_sort_index(s->by_key, (size_t)s->n_value, key_less, s->values) != PERI_OK)
        return no_memory(p, "sorting the keys");
    for (uint64_t i = 1; i < s->n_value; i++) {
        uint32_t a = s->by_key[i - 1], b = s->by_key[i];
        if (b < twice && !key_less(s->values, a, b)) {
            twice = b;
            first = a;
        }
    }
    if (twice == UINT64_MAX) return PERI_OK;
    p->name = s->values[twice].key;
    p->off = s->values[twice].off;
    return reject(p, PERI_E_CORRUPT,
                  "found the key a second time (first at offset %" PRIu64 "), expected it once",
                  s->values[first].off);
}

static peri_status read_keys(parser *p) {
    peri_gguf_shard *s = p->shard;
    s->values = peri_arena_alloc(p->arena, (size_t)s->n_value, sizeof *s->values);
    if (s->values == NULL) return no_memory(p, "the keys");
    p->kind = "key";
    p->n = s->n_value;
    for (p->i = 0; p->i < p->n; p->i++) {
        p->off = p->r.off;
        p->name.data = NULL;
        peri_status status = read_key(p, &s->values[p->i]);
        if (status != PERI_OK) return status;
    }
    return index_keys(p);
}

static peri_status read_alignment(parser *p) {
    peri_gguf_shard *s = p->shard;
    int64_t alignment = 0;
    s->alignment = PERI_GGUF_DEFAULT_ALIGNMENT;
    const peri_gguf_value *v = peri_gguf_shard_find(s, PERI_STR("general.alignment"));
    if (v == NULL) return PERI_OK;
    p->name = v->key;
    p->off = v->off;
    if (v->type != PERI_GGUF_U32 || v->is_array)
        return reject(p, PERI_E_CORRUPT, "found type %s%s, expected u32",
                      v->is_array ? "array of " : "", peri_gguf_type_name(v->type));
    peri_gguf_as_i64(v, 0, &alignment);
    if (alignment < PERI_GGUF_MIN_ALIGNMENT || alignment > PERI_GGUF_MAX_ALIGNMENT ||
        (alignment & (alignment - 1)) != 0)
        return reject(p, PERI_E_CORRUPT, "found %" PRId64 ", expected a power of two in %d..%d",
                      alignment, (int)PERI_GGUF_MIN_ALIGNMENT, (int)PERI_GGUF_MAX_ALIGNMENT);
    s->alignment = (uint64_t)alignment;
    return PERI_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* The file has the fastest dimension first; here it is turned round, once and for all. */
static peri_status read_dims(parser *p, peri_gguf_tensor *t, uint64_t *n_element) {
    peri_status status = read_u32(p, "number of dimensions", &t->n_dim);
    if (status != PERI_OK) return status;
    if (t->n_dim == 0 || t->n_dim > PERI_GGUF_MAX_DIMS)
        return reject(p, PERI_E_CORRUPT, "number of dimensions: found %" PRIu32 ", expected 1..%d",
                      t->n_dim, (int)PERI_GGUF_MAX_DIMS);
    *n_element = 1;
    for (int i = 0; i < PERI_GGUF_MAX_DIMS; i++)
        t->dim[i] = 1;
    for (uint32_t i = 0; i < t->n_dim; i++) {
        uint64_t n = 0;
        status = read_u64(p, "dimension", &n);
        if (status != PERI_OK) return status;
        if (n == 0 || n > INT64_MAX)
            return reject(p, PERI_E_CORRUPT,
                          "dimension %" PRIu32 ": found %" PRIu64 ", expected 1..%" PRId64, i, n,
                          INT64_MAX);
        if (!peri_mul_u64(*n_element, n, n_element) || *n_element > INT64_MAX)
            return reject(p, PERI_E_CORRUPT,
                          "dimension %" PRIu32 ": found %" PRIu64
                          ", expected a product of dimensions below 2^63",
                          i, n);
        t->dim[PERI_GGUF_MAX_DIMS - 1 - i] = (int64_t)n;
    }
    return PERI_OK;
}

/* Type and size; rows must be whole blocks, since kernels walk them one by one. */
static peri_status read_type(parser *p, peri_gguf_tensor *t, uint64_t n_element) {
    peri_status status = read_u32(p, "type", &t->dtype);
    if (status != PERI_OK) return status;
    const peri_dtype_info *type = peri_dtype_get(t->dtype);
    if (type == NULL)
        return reject(p, PERI_E_CORRUPT, "found type %" PRIu32 ", expected a known tensor type",
                      t->dtype);
    if (t->dim[PERI_GGUF_MAX_DIMS - 1] % type->block_elements != 0)
        return reject(p, PERI_E_CORRUPT,
                      "dimension 0: found %" PRId64 ", expected a multiple of %" PRIu32
                      " (blocks of %s)",
                      t->dim[PERI_GGUF_MAX_DIMS - 1], type->block_elements, type->name);
    if (peri_dtype_bytes(t->dtype, n_element, &t->bytes, NULL) != PERI_OK)
        return reject(p, PERI_E_CORRUPT,
                      "found %" PRIu64 " elements of %s, expected a size below 2^64 bytes",
                      n_element, type->name);
    return PERI_OK;
}

static peri_status read_tensor(parser *p, peri_gguf_tensor *t, uint64_t *data_off) {
    uint64_t n_element = 0;
    peri_status status = read_name(p, PERI_GGUF_MAX_NAME);
    if (status == PERI_OK) status = read_dims(p, t, &n_element);
    if (status == PERI_OK) status = read_type(p, t, n_element);
    if (status == PERI_OK) status = read_u64(p, "data offset", data_off);
    if (status != PERI_OK) return status;
    t->name = p->name;
    t->info_off = p->off;
    t->shard = p->shard->number;
    if (*data_off % p->shard->alignment != 0)
        return reject(p, PERI_E_CORRUPT,
                      "data offset: found %" PRIu64 ", expected a multiple of %" PRIu64, *data_off,
                      p->shard->alignment);
    return PERI_OK;
}

/* Turn t's offset within the data section, which starts at `start`, into a pointer. */
static peri_status place_tensor(parser *p, peri_gguf_tensor *t, uint64_t start, uint64_t data_off) {
    uint64_t first = 0, end = 0, size = p->shard->size;
    p->name = t->name;
    p->off = t->info_off;
    if (!peri_add_u64(start, data_off, &first) || !peri_add_u64(first, t->bytes, &end) ||
        end > size)
        return reject(p, PERI_E_CORRUPT,
                      "data: found %" PRIu64 " bytes at %" PRIu64 "+%" PRIu64
                      ", expected an end within the file's %" PRIu64,
                      t->bytes, start, data_off, size);
    t->data = p->shard->data + first;
    return PERI_OK;
}

static bool data_less(const void *user, uint32_t a, uint32_t b) {
    const peri_gguf_tensor *t = user;
    return t[a].data < t[b].data;
}

/* Sorted by start, any two that overlap include two neighbours that do. */
static peri_status check_overlap(parser *p) {
    const peri_gguf_tensor *t = p->shard->tensors;
    uint64_t n = p->shard->n_tensor;
    peri_status status = PERI_OK;
    uint32_t *order = peri_alloc_array((size_t)n, sizeof *order);
    if (order == NULL) return no_memory(p, "sorting the tensors");
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    if (peri_sort_index(order, (size_t)n, data_less, t) != PERI_OK)
        status = no_memory(p, "sorting the tensors");
    for (uint64_t i = 1; i < n && status == PERI_OK; i++) {
        const peri_gguf_tensor *a = &t[order[i - 1]], *b = &t[order[i]];
        if (a->bytes <= (uint64_t)(b->data - a->data)) continue;
        if (a->info_off > b->info_off) { /* the later record is the one to blame */
            const peri_gguf_tensor *later = a;
            a = b;
            b = later;
        }
        char name[PERI_GGUF_SHOWN + 1];
        peri_gguf_show(name, a->name);
        p->name = b->name;
        p->off = b->info_off;
        status =
            reject(p, PERI_E_CORRUPT,
                   "data: found an overlap with tensor %s at offset %" PRIu64 ", expected none",
                   name, a->info_off);
    }
    peri_free(order);
    return status;
}

static peri_status read_tensors(parser *p) {
    peri_gguf_shard *s = p->shard;
    peri_status status = PERI_OK;
    uint64_t start = 0;
    uint64_t *data_off = peri_alloc_array((size_t)s->n_tensor, sizeof *data_off);
    s->tensors = peri_arena_alloc(p->arena, (size_t)s->n_tensor, sizeof *s->tensors);
    if (s->tensors == NULL || data_off == NULL) status = no_memory(p, "the tensors");
    p->kind = "tensor";
    p->n = s->n_tensor;
    for (p->i = 0; p->i < p->n && status == PERI_OK; p->i++) {
        p->off = p->r.off;
        p->name.data = NULL;
        status = read_tensor(p, &s->tensors[p->i], &data_off[p->i]);
    }
    if (status == PERI_OK) /* cannot overflow: the cursor lies inside the file */
        peri_pad_u64(p->r.off, s->alignment, &start);
    for (p->i = 0; p->i < p->n && status == PERI_OK; p->i++)
        status = place_tensor(p, &s->tensors[p->i], start, data_off[p->i]);
    peri_free(data_off);
    return status == PERI_OK ? check_overlap(p) : status;
}

/* ---- header ---------------------------------------------------------------------------------- */

static peri_status check_version(parser *p) {
    uint32_t version = p->shard->version;
    if (version == 2 || version == 3) return PERI_OK;
    if (version == 0x02000000 || version == 0x03000000)
        return reject(p, PERI_E_UNSUPPORTED,
                      "version: found a big-endian file, expected a little-endian one");
    return reject(p, version == 1 ? PERI_E_UNSUPPORTED : PERI_E_CORRUPT,
                  "version: found %" PRIu32 ", expected 2 or 3", version);
}

/* A count of records of at least `each` bytes. */
static peri_status read_count(parser *p, const char *what, uint64_t cap, uint64_t each,
                              uint64_t *out) {
    p->off = p->r.off;
    peri_status status = read_u64(p, what, out);
    if (status != PERI_OK) return status;
    uint64_t most = p->r.size < HEADER_BYTES ? 0 : (p->r.size - HEADER_BYTES) / each;
    if (most > cap) most = cap;
    if (*out > most)
        return reject(p, PERI_E_CORRUPT,
                      "%s: found %" PRIu64 ", expected at most %" PRIu64 " in %" PRIu64 " bytes",
                      what, *out, most, p->r.size);
    return PERI_OK;
}

static peri_status read_header(parser *p) {
    const uint8_t *magic = NULL;
    peri_status status = read_bytes(p, "magic", 4, &magic);
    if (status != PERI_OK) return status;
    if (memcmp(magic, "GGUF", 4) != 0) {
        char shown[5] = {0};
        for (int i = 0; i < 4; i++)
            shown[i] = (char)(magic[i] >= MIN_SHOWN && magic[i] <= MAX_SHOWN ? magic[i] : '?');
        return reject(p, PERI_E_CORRUPT,
                      "magic: found \"%s\" (%02x %02x %02x %02x), expected \"GGUF\"", shown,
                      magic[0], magic[1], magic[2], magic[3]);
    }
    p->off = p->r.off;
    status = read_u32(p, "version", &p->shard->version);
    if (status == PERI_OK) status = check_version(p);
    if (status == PERI_OK)
        status = read_count(p, "tensor count", PERI_GGUF_MAX_TENSORS, MIN_TENSOR_BYTES,
                            &p->shard->n_tensor);
    if (status == PERI_OK)
        status = read_count(p, "key count", PERI_GGUF_MAX_KEYS, MIN_KEY_BYTES, &p->shard->n_value);
    return status;
}

peri_status peri_gguf_parse(peri_gguf_shard *s, peri_arena *arena, peri_error *err) {
    parser p = {.r = {s->name, s->data, s->size, 0}, .shard = s, .arena = arena, .err = err};
    peri_status status = read_header(&p);
    if (status == PERI_OK) status = read_keys(&p);
    if (status == PERI_OK) status = read_alignment(&p);
    if (status == PERI_OK) status = read_tensors(&p);
    return status;
}
