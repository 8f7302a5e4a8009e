/* SPDX-License-Identifier: MIT
 *
 * gguf_writer.c - GGUF files from calls, with a record of where each field lies.
 *
 * Running out of memory in a test ends the test program: nothing here is checked by the callers.
 * Source of the format: ggml-org/ggml docs/gguf.md. */
#include "gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/gguf.h"

enum { HEADER_BYTES = 24, DEFAULT_ALIGNMENT = 32 };

void gw_init(peri_gguf_writer *w) {
    *w = (peri_gguf_writer){.version = 3, .alignment = DEFAULT_ALIGNMENT};
}

void gw_fini(peri_gguf_writer *w) {
    peri_text_fini(&w->kv);
    peri_text_fini(&w->infos);
    peri_text_fini(&w->data);
    peri_free(w->fields);
    *w = (peri_gguf_writer){0};
}

static void add_field(peri_gguf_writer *w, const char *name, const char *part, uint64_t off,
                      uint64_t bytes, uint64_t record_off) {
    if (w->n_field == w->room_field) {
        w->room_field = w->room_field * 2 + 64;
        w->fields = peri_resize_array(w->fields, w->room_field, sizeof *w->fields);
        if (w->fields == NULL) abort();
    }
    peri_gguf_field *f = &w->fields[w->n_field++];
    *f = (peri_gguf_field){.off = off, .bytes = bytes, .record_off = record_off};
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->part, sizeof f->part, "%s", part);
}

/* A little-endian number of n bytes; the machine is little-endian, as the format. */
static void put(peri_text *b, const void *v, size_t n) {
    peri_text_add(b, v, n);
    if (b->failed) abort();
}

/* Where the record being written starts, and whose it is. */
typedef struct record {
    peri_gguf_writer *w;
    peri_text *section;
    const char *name;
    uint64_t off;
} record;

static void part(record *r, const char *name, const void *v, size_t n) {
    add_field(r->w, r->name, name, r->section->size, n, r->off);
    put(r->section, v, n);
}

static void part_u32(record *r, const char *name, uint32_t v) {
    part(r, name, &v, sizeof v);
}

static void part_u64(record *r, const char *name, uint64_t v) {
    part(r, name, &v, sizeof v);
}

static record key_begin(peri_gguf_writer *w, const char *key, peri_gguf_type type) {
    record r = {w, &w->kv, key, w->kv.size};
    part_u64(&r, "key_len", strlen(key));
    part(&r, "key", key, strlen(key));
    part_u32(&r, "type", type);
    w->n_kv++;
    return r;
}

static void scalar(peri_gguf_writer *w, const char *key, peri_gguf_type type, const void *v,
                   size_t bytes) {
    record r = key_begin(w, key, type);
    part(&r, "value", v, bytes);
}

static record array_begin(peri_gguf_writer *w, const char *key, peri_gguf_type type, size_t n) {
    record r = key_begin(w, key, PERI_GGUF_ARRAY);
    part_u32(&r, "elem_type", type);
    part_u64(&r, "count", n);
    return r;
}

void gw_u32(peri_gguf_writer *w, const char *key, uint32_t v) {
    scalar(w, key, PERI_GGUF_U32, &v, sizeof v);
}

void gw_i32(peri_gguf_writer *w, const char *key, int32_t v) {
    scalar(w, key, PERI_GGUF_I32, &v, sizeof v);
}

void gw_u64(peri_gguf_writer *w, const char *key, uint64_t v) {
    scalar(w, key, PERI_GGUF_U64, &v, sizeof v);
}

void gw_f32(peri_gguf_writer *w, const char *key, float v) {
    scalar(w, key, PERI_GGUF_F32, &v, sizeof v);
}

void gw_bool(peri_gguf_writer *w, const char *key, int v) {
    uint8_t b = v != 0;
    scalar(w, key, PERI_GGUF_BOOL, &b, sizeof b);
}

static void string(record *r, const char *v) {
    part_u64(r, "str_len", strlen(v));
    part(r, "str", v, strlen(v));
}

void gw_str(peri_gguf_writer *w, const char *key, const char *v) {
    record r = key_begin(w, key, PERI_GGUF_STRING);
    string(&r, v);
}

void gw_strs(peri_gguf_writer *w, const char *key, const char *const *v, size_t n) {
    record r = array_begin(w, key, PERI_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        string(&r, v[i]);
}

void gw_i32s(peri_gguf_writer *w, const char *key, const int32_t *v, size_t n) {
    record r = array_begin(w, key, PERI_GGUF_I32, n);
    part(&r, "value", v, n * sizeof *v);
}

void gw_f32s(peri_gguf_writer *w, const char *key, const float *v, size_t n) {
    record r = array_begin(w, key, PERI_GGUF_F32, n);
    part(&r, "value", v, n * sizeof *v);
}

static void pad(peri_text *b, uint64_t alignment) {
    static const char zero = 0;
    while (b->size % alignment != 0)
        put(b, &zero, 1);
}

void gw_tensor(peri_gguf_writer *w, const char *name, uint32_t dtype, const int64_t *dim, int n_dim,
               const void *data, uint64_t bytes) {
    record r = {w, &w->infos, name, w->infos.size};
    pad(&w->data, w->alignment);
    part_u64(&r, "name_len", strlen(name));
    part(&r, "name", name, strlen(name));
    part_u32(&r, "n_dim", (uint32_t)n_dim);
    for (int i = n_dim - 1; i >= 0; i--)
        part_u64(&r, "dim", (uint64_t)dim[i]);
    part_u32(&r, "dtype", dtype);
    part_u64(&r, "offset", w->data.size);
    add_field(w, name, "data", w->data.size, bytes, r.off);
    put(&w->data, data, (size_t)bytes);
    w->n_tensor++;
}

/* Sections move to their place in the file, and so do the fields. */
static void make_absolute(peri_gguf_writer *w, uint64_t kv_off, uint64_t info_off,
                          uint64_t data_off) {
    static const char *const of_tensor[] = {"name_len", "name", "n_dim", "dim", "dtype", "offset"};
    for (size_t i = 0; i < w->n_field; i++) {
        peri_gguf_field *f = &w->fields[i];
        int is_data = strcmp(f->part, "data") == 0, is_info = is_data;
        for (size_t k = 0; k < sizeof of_tensor / sizeof of_tensor[0]; k++)
            is_info |= strcmp(f->part, of_tensor[k]) == 0;
        f->off += is_data ? data_off : is_info ? info_off : kv_off;
        f->record_off += is_info ? info_off : kv_off;
    }
}

void gw_finish(peri_gguf_writer *w, peri_text *out) {
    uint64_t kv_off = out->size + HEADER_BYTES;
    make_absolute(w, kv_off, kv_off + w->kv.size,
                  (kv_off + w->kv.size + w->infos.size + w->alignment - 1) / w->alignment *
                      w->alignment);
    record r = {w, out, "", out->size};
    part(&r, "magic", "GGUF", 4);
    part_u32(&r, "version", w->version);
    part_u64(&r, "n_tensor", w->n_tensor);
    part_u64(&r, "n_kv", w->n_kv);
    put(out, w->kv.data, w->kv.size);
    put(out, w->infos.data, w->infos.size);
    if (w->data.size != 0) {
        pad(out, w->alignment);
        put(out, w->data.data, w->data.size);
    }
}
