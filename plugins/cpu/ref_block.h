/* SPDX-License-Identifier: MIT
 *
 * ref_block.h - reading the bytes of a block, and the decoders of ref_dequant_code.c; shared by
 * ref_dequant.c and ref_dequant_code.c only. */
#ifndef PERI_CPU_REF_BLOCK_H
#define PERI_CPU_REF_BLOCK_H

#include <string.h>

#include "ref.h"

static inline uint16_t load_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline float load_f16(const uint8_t *p) {
    return ref_f16_to_f32(load_u16(p));
}

static inline uint32_t load_u32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Decodes one block. */
typedef void (*ref_block_fn)(const uint8_t *b, float *y);
/* NULL: no type of that file. */
ref_block_fn ref_code_decoder(uint32_t dtype);

#endif
