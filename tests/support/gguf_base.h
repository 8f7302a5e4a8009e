/* SPDX-License-Identifier: MIT
 *
 * gguf_base.h - the whole files that the mutator damages, built once and kept. */
#ifndef PERI_TEST_GGUF_BASE_H
#define PERI_TEST_GGUF_BASE_H

#include "gguf_writer.h"

/* One finished file with the places of its fields. */
typedef struct peri_gguf_base {
    peri_gguf_writer w;
    peri_text file;
} peri_gguf_base;

enum { PERI_N_BASE_ARCH = 7, PERI_N_BASE = 4, PERI_BASE_SPLIT = 3 };
extern const char *const peri_base_archs[PERI_N_BASE_ARCH];
/* 0: F32 without general.alignment; 1: Q8_0; 2: F16, version 2; 3: Q4_0 in two shards. */
extern const char *const peri_base_names[PERI_N_BASE];

/* Two files; the second is empty unless variant is PERI_BASE_SPLIT. */
const peri_gguf_base *peri_gguf_base_get(int arch, int variant);
void peri_gguf_bases_free(void);

#endif
