/* SPDX-License-Identifier: MIT
 *
 * gguf_base.c - tiny models of each architecture in four forms, one of them in two shards.
 *
 * A test helper: running out of memory ends the program. */
#include "gguf_base.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "model/dtype.h"

enum { SEED = 7 }; /* of every base */

const char *const peri_base_archs[PERI_N_BASE_ARCH] = {"llama", "qwen2",  "qwen3", "qwen3moe",
                                                       "phi3",  "gemma2", "gemma3"};
const char *const peri_base_names[PERI_N_BASE] = {"f32", "q8_0", "f16 v2", "q4_0 split"};
static const struct {
    uint32_t dtype, version;
} variants[PERI_N_BASE] = {
    {PERI_DT_F32, 3}, {PERI_DT_Q8_0, 3}, {PERI_DT_F16, 2}, {PERI_DT_Q4_0, 3}};

static peri_gguf_base cache[PERI_N_BASE_ARCH][PERI_N_BASE][2];

/* Copy the tensors numbered lo..hi-1 of an unfinished writer to another. */
static void copy_tensors(peri_gguf_writer *to, const peri_gguf_writer *from, size_t lo, size_t hi) {
    size_t number = 0;
    for (size_t i = 0; i < from->n_field; i++) {
        const peri_gguf_field *f = &from->fields[i];
        if (strcmp(f->part, "name_len") != 0) continue;
        if (number >= lo && number < hi) {
            uint32_t n_dim, dtype;
            int64_t dim[4];
            const char *p = from->infos.data + f->off + 8 + strlen(f->name);
            memcpy(&n_dim, p, 4);
            for (uint32_t k = 0; k < n_dim; k++)
                memcpy(&dim[n_dim - 1 - k], p + 4 + 8 * k, 8);
            memcpy(&dtype, p + 4 + 8 * n_dim, 4);
            while (strcmp(f->part, "data") != 0)
                f++;
            gw_tensor(to, f->name, dtype, dim, (int)n_dim, from->data.data + f->off, f->bytes);
        }
        number++;
    }
}

static void split_keys(peri_gguf_writer *w, uint32_t no, uint64_t n_tensor) {
    gw_u32(w, "split.no", no);
    gw_u32(w, "split.count", 2);
    gw_u32(w, "split.tensors.count", (uint32_t)n_tensor);
}

/* Keys do not know where they lie: take them over with their fields. */
static void copy_keys(peri_gguf_writer *to, const peri_gguf_writer *from) {
    for (size_t i = 0; i < from->n_field && strcmp(from->fields[i].part, "name_len") != 0; i++) {
        peri_gguf_field f = from->fields[i];
        f.off += to->kv.size;
        f.record_off += to->kv.size;
        if (to->n_field == to->room_field) {
            to->room_field = to->room_field * 2 + 64;
            to->fields = peri_resize_array(to->fields, to->room_field, sizeof f);
            if (to->fields == NULL) abort();
        }
        to->fields[to->n_field++] = f;
    }
    peri_text_add(&to->kv, from->kv.data, from->kv.size);
    to->n_kv += from->n_kv;
}

static void build_pair(peri_gguf_base s[2], const char *arch, uint32_t dtype) {
    peri_gguf_writer whole;
    gw_init(&whole);
    gw_tiny_model(&whole, arch, dtype, SEED);
    gw_init(&s[1].w);
    split_keys(&s[0].w, 0, whole.n_tensor);
    split_keys(&s[1].w, 1, whole.n_tensor);
    copy_keys(&s[0].w, &whole);
    copy_tensors(&s[0].w, &whole, 0, (size_t)whole.n_tensor / 2);
    copy_tensors(&s[1].w, &whole, (size_t)whole.n_tensor / 2, (size_t)whole.n_tensor);
    gw_fini(&whole);
    gw_finish(&s[1].w, &s[1].file);
}

const peri_gguf_base *peri_gguf_base_get(int arch, int variant) {
    peri_gguf_base *s = cache[arch][variant];
    if (s[0].file.size != 0) return s;
    gw_init(&s[0].w);
    s[0].w.version = variants[variant].version;
    if (variant != 0) gw_u32(&s[0].w, "general.alignment", 32);
    if (variant == PERI_BASE_SPLIT)
        build_pair(s, peri_base_archs[arch], variants[variant].dtype);
    else
        gw_tiny_model(&s[0].w, peri_base_archs[arch], variants[variant].dtype, SEED);
    gw_finish(&s[0].w, &s[0].file);
    if (s[0].file.failed || s[1].file.failed) abort();
    return s;
}

void peri_gguf_bases_free(void) {
    peri_gguf_base *s = &cache[0][0][0];
    for (size_t i = 0; i < sizeof cache / sizeof *s; i++) {
        gw_fini(&s[i].w);
        peri_text_fini(&s[i].file);
    }
}
