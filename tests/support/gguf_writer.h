/* SPDX-License-Identifier: MIT
 *
 * gguf_writer.h - writes GGUF files for tests, recording where every field lies, so that a mutator
 * can damage a known field and compute which key or tensor and offset the reader must name. */
#ifndef PERI_TEST_GGUF_WRITER_H
#define PERI_TEST_GGUF_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

typedef struct peri_gguf_field {
    char name[96]; /* key or tensor it belongs to; "" for the header */
    char part[24]; /* "magic" "version" "n_tensor" "n_kv" "key_len" "key" "type" "elem_type" "count"
                      "value" "str_len" "str" "name_len" "name" "n_dim" "dim" "dtype" "offset"
                      "data" */
    uint64_t off, bytes;
    uint64_t record_off; /* offset of the key's or tensor's record: what an error must name */
} peri_gguf_field;

typedef struct peri_gguf_writer {
    uint32_t version;   /* 2 or 3; 0 means 3 */
    uint32_t alignment; /* 0 means 32 */
    peri_text kv, infos, data;
    uint64_t n_kv, n_tensor;
    peri_gguf_field *fields; /* offsets relative to their section until finish */
    size_t n_field, room_field;
} peri_gguf_writer;

void gw_init(peri_gguf_writer *w);
void gw_fini(peri_gguf_writer *w);
void gw_u32(peri_gguf_writer *w, const char *key, uint32_t v);
void gw_i32(peri_gguf_writer *w, const char *key, int32_t v);
void gw_u64(peri_gguf_writer *w, const char *key, uint64_t v);
void gw_f32(peri_gguf_writer *w, const char *key, float v);
void gw_bool(peri_gguf_writer *w, const char *key, int v);
void gw_str(peri_gguf_writer *w, const char *key, const char *v);
void gw_strs(peri_gguf_writer *w, const char *key, const char *const *v, size_t n);
void gw_i32s(peri_gguf_writer *w, const char *key, const int32_t *v, size_t n);
void gw_f32s(peri_gguf_writer *w, const char *key, const float *v, size_t n);
/* dims slowest first; data borrowed and copied; bytes exact for dtype. */
void gw_tensor(peri_gguf_writer *w, const char *name, uint32_t dtype, const int64_t *dim, int n_dim,
               const void *data, uint64_t bytes);
/* The finished file in *out; fields then hold absolute offsets. */
void gw_finish(peri_gguf_writer *w, peri_text *out);
/* A complete tiny random model of the given architecture (llama, qwen2, qwen3, qwen3moe, phi3,
 * gemma2, gemma3): 2 layers, width 64 (256 for types with blocks longer than 32), vocabulary 300
 * with a byte-level BPE tokenizer, matrices of the given type by number (0 = F32, 8 = Q8_0, any but
 * integers). */
void gw_tiny_model(peri_gguf_writer *w, const char *arch, uint32_t dtype, uint64_t seed);

/* Counter-based random bits, the same everywhere.  Source: Steele, Lea, Flood 2014 (splitmix64). */
uint64_t gw_random(uint64_t key, uint64_t counter);

/* The same in another shape; d_model and d_ff are multiples of the type's block. */
typedef struct gw_shape {
    int64_t n_layer, n_head, n_kv, d_model, d_head, d_ff, n_ctx;
    uint32_t dtype_down; /* of ffn_down in all layers but the first; 0: as the others */
} gw_shape;
void gw_model(peri_gguf_writer *w, const char *arch, uint32_t dtype, uint64_t seed,
              const gw_shape *shape);

#endif
