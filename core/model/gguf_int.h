/* SPDX-License-Identifier: MIT
 *
 * gguf_int.h - what the files of the GGUF reader share, and the entry the fuzz target and the tests
 * use. */
#ifndef PERI_MODEL_GGUF_INT_H
#define PERI_MODEL_GGUF_INT_H

#include <stdarg.h>

#include "base/alloc.h"
#include "base/io.h"
#include "model/gguf.h"

enum {
    PERI_GGUF_MAX_KEYS = 1 << 20,    /* per file; published models hold below 200 */
    PERI_GGUF_MAX_TENSORS = 1 << 20, /* all shards; published models hold below 200,000 */
    PERI_GGUF_MAX_KEY = 65535,       /* bytes of a key.  Source: gguf.md, "Key" */
    PERI_GGUF_MAX_NAME = 64,         /* bytes of a tensor name.  Source: gguf.md, "name" */
    PERI_GGUF_MAX_DIMS = 4,
    PERI_GGUF_MIN_ALIGNMENT = 8,       /* Source: gguf.md, "general.alignment": a multiple of 8 */
    PERI_GGUF_MAX_ALIGNMENT = 1 << 16, /* ours */
    PERI_GGUF_DEFAULT_ALIGNMENT = 32   /* Source: the same */
};

/* One file of a model.  Everything but the mapping lives in the arena of the model. */
typedef struct peri_gguf_shard {
    peri_mapping *map; /* NULL when opened from bytes */
    const char *name;  /* for messages; a long path loses its front */
    const uint8_t *data;
    uint64_t size, alignment;
    uint32_t number, version;
    uint64_t n_value, n_tensor;
    peri_gguf_value *values;
    uint32_t *by_key; /* [n_value], sorted by key */
    peri_gguf_tensor *tensors;
} peri_gguf_shard;

/* Parse and check one file whose number, name, data and size are set.  Tensor data is checked
 * against the file; duplicate names across shards are the caller's. */
peri_status peri_gguf_parse(peri_gguf_shard *s, peri_arena *arena, peri_error *err);

/* Order of the indices: shorter names first, equal lengths by bytes. */
int peri_gguf_compare(peri_str a, peri_str b);
const peri_gguf_value *peri_gguf_shard_find(const peri_gguf_shard *s, peri_str key);

enum {
    PERI_GGUF_SHOWN = 80
}; /* bytes of an escaped name or path in messages, so that the rest fits */
/* The name as messages show it: escaped, and cut with "..." where it is too long. */
void peri_gguf_show(char dst[PERI_GGUF_SHOWN + 1], peri_str name);
/* What messages call the (first) file. */
const char *peri_gguf_shown_name(const peri_gguf *g);

/* "u32", "string", ...; "?" for a number that is no type.  Bytes of one element, 0 for strings and
 * arrays. */
const char *peri_gguf_type_name(uint32_t type);
uint32_t peri_gguf_type_bytes(uint32_t type);

/* "FILE: key K at offset N: <formatted>" with code CORRUPT, and the same for tensors. */
peri_status peri_gguf_vfail_key(const peri_gguf_shard *s, const peri_gguf_value *v, peri_error *err,
                                const char *fmt, va_list ap) __attribute__((format(printf, 4, 0)));
peri_status peri_gguf_vfail_tensor(const peri_gguf_shard *s, const peri_gguf_tensor *t,
                                   peri_error *err, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));

/* Open a single file held in memory; name (for messages) and data are borrowed until closing. */
peri_status peri_gguf_open_bytes(const char *name, const void *data, size_t size, peri_gguf **out,
                                 peri_error *err);

#endif
