/* SPDX-License-Identifier: MIT
 *
 * gguf.h - a model file: GGUF versions 2 and 3, one file or shards, mapped read-only.
 *
 * Opening checks everything that does not depend on the architecture: magic, version, counts,
 * lengths, types, duplicate keys and tensors, alignment, that each tensor lies inside its file and
 * overlaps no other.  A file of N bytes never makes us allocate more than 4 N + 16 MB.  Errors
 * name file, key or tensor, byte offset, found and expected.
 *
 * After opening the object is immutable and may be read by any thread.  Strings and arrays are
 * borrowed from the mapping.  Source of the format: ggml-org/ggml docs/gguf.md. */
#ifndef PERI_MODEL_GGUF_H
#define PERI_MODEL_GGUF_H

#include <stdbool.h>

#include "base/pool.h"
#include "perigee/types.h"

typedef struct peri_gguf peri_gguf;

/* Value types of the format, by number. */
typedef enum peri_gguf_type {
    PERI_GGUF_U8,
    PERI_GGUF_I8,
    PERI_GGUF_U16,
    PERI_GGUF_I16,
    PERI_GGUF_U32,
    PERI_GGUF_I32,
    PERI_GGUF_F32,
    PERI_GGUF_BOOL,
    PERI_GGUF_STRING,
    PERI_GGUF_ARRAY,
    PERI_GGUF_U64,
    PERI_GGUF_I64,
    PERI_GGUF_F64
} peri_gguf_type;

typedef struct peri_gguf_value {
    peri_str key;
    peri_gguf_type type; /* of the value; of the elements when is_array */
    bool is_array;
    uint64_t n;              /* elements; 1 for a scalar */
    uint64_t off;            /* byte offset of the key's record in the first shard */
    const uint8_t *data;     /* little-endian payload of a non-string value or array; unaligned */
    const peri_str *strings; /* [n] when type is STRING */
} peri_gguf_value;

typedef struct peri_gguf_tensor {
    peri_str name;
    uint32_t dtype;      /* number in dtype.def, always known */
    uint32_t n_dim;      /* 1..4 */
    int64_t dim[4];      /* slowest index first, leading dims are 1: a [n_vocab][d_model] matrix is
                            {1,1,n_vocab,d_model} */
    uint64_t bytes;      /* exact size of the data */
    uint64_t info_off;   /* byte offset of the tensor's record */
    uint32_t shard;      /* index of the file that holds it */
    const uint8_t *data; /* in the mapping, its file offset aligned */
} peri_gguf_tensor;

/* Open `path`.  A first shard NAME-00001-of-0000N.gguf opens all N (keys from the first; another
 * shard is refused by name with a hint).  Close with peri_gguf_close. */
peri_status peri_gguf_open(const char *path, peri_gguf **out, peri_error *err);
void peri_gguf_close(peri_gguf *g); /* accepts NULL */

const char *peri_gguf_path(const peri_gguf *g);
uint64_t peri_gguf_file_bytes(const peri_gguf *g); /* all shards */
uint32_t peri_gguf_version(const peri_gguf *g);
/* peri_mapping_copy_in of all shards (io.h); after that what follows says how many bytes it were.
 */
uint64_t peri_gguf_copy_in(peri_gguf *g, peri_pool *pool, bool (*go_on)(void *user, uint64_t done),
                           void *user);
uint64_t peri_gguf_copied_bytes(const peri_gguf *g);
/* PERI_E_IO once a page of any shard vanished (see io.h). */
peri_status peri_gguf_check(const peri_gguf *g, peri_error *err);

uint64_t peri_gguf_n_values(const peri_gguf *g);
const peri_gguf_value *peri_gguf_value_at(const peri_gguf *g, uint64_t i);
const peri_gguf_value *peri_gguf_find(const peri_gguf *g, const char *key); /* or NULL */
uint64_t peri_gguf_n_tensors(const peri_gguf *g);
const peri_gguf_tensor *peri_gguf_tensor_at(const peri_gguf *g, uint64_t i);
const peri_gguf_tensor *peri_gguf_find_tensor(const peri_gguf *g, const char *name);

/* Element i of a value as a number; every integer, bool and float type converts.  false when the
 * value is a string, i is out of range, or (integer form) the number is no integer of that range.
 */
bool peri_gguf_as_i64(const peri_gguf_value *v, uint64_t i, int64_t *out);
bool peri_gguf_as_f64(const peri_gguf_value *v, uint64_t i, double *out);
bool peri_gguf_as_str(const peri_gguf_value *v, uint64_t i, peri_str *out);

/* Typed getters for required and optional scalar keys.  Missing: NOT_FOUND naming the key.  Wrong
 * type or outside [lo, hi]: CORRUPT naming file, key, byte offset, found and expected. */
peri_status peri_gguf_get_i64(const peri_gguf *g, const char *key, int64_t lo, int64_t hi,
                              int64_t *out, peri_error *err);
peri_status peri_gguf_get_f64(const peri_gguf *g, const char *key, double lo, double hi,
                              double *out, peri_error *err); /* NaN and infinities refused */
peri_status peri_gguf_get_bool(const peri_gguf *g, const char *key, bool *out, peri_error *err);
peri_status peri_gguf_get_str(const peri_gguf *g, const char *key, peri_str *out, peri_error *err);
/* A CORRUPT error about one key: "FILE: key K at offset N: <formatted>". */
peri_status peri_gguf_fail_key(const peri_gguf *g, const peri_gguf_value *v, peri_error *err,
                               const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The same about one tensor: "FILE: tensor T at offset N: <formatted>". */
peri_status peri_gguf_fail_tensor(const peri_gguf *g, const peri_gguf_tensor *t, peri_error *err,
                                  const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#endif
