/* SPDX-License-Identifier: MIT
 *
 * amx.h - the tile instructions of AMX-INT8 and AMX-BF16 as far as linear_amx.c and
 * linear_amx_bf16.c use them, and whether this process may use them (amx.c).
 *
 * Eight tiles of at most 16 rows of 64 bytes.  The tile's number is a literal, as is the distance d
 * in bytes from p to the first row that a load or store takes (tile_load_at); s is that from row to
 * row.  A and C have a token to a row, B four columns k to a row, [row of weights][4] bytes;
 * tile_dot adds, for each token and row of weights, 64 products of signed bytes to an int32;
 * tile_dot_su takes those of B as unsigned, tile_dot_us those of A.
 * tile_dot_bf16 takes two bf16 in place of the four bytes and adds c + (even + odd) in f32, where
 * even and odd are chains of FMAs from +0 over the 16 even and the 16 odd ones.
 *
 * Three pitfalls are dealt with here and nowhere else.
 * - The compiler knows nothing about what tiles read and write: every access is a barrier for
 *   memory, because gcc 12's own intrinsics declare loads as reading nothing and LDTILECFG as
 *   reading eight bytes, and then drops or moves the stores before them.
 * - Tiles in use make every context switch save and restore 8 KB: they are released as soon as a
 *   worker's chunk ends, not when it next sleeps.
 * - Compiled with PERI_AMX_EMULATED the same names are functions of the test's emulation, which
 *   checks what the processor would (tests/support/amx_emulated.c). */
#ifndef PERI_CPU_AMX_H
#define PERI_CPU_AMX_H

#include <stddef.h>
#include <stdint.h>

enum {
    TILE_TOKENS = 16,
    TILE_ROW_BYTES = 64,
    TILE_BYTES = TILE_TOKENS * TILE_ROW_BYTES,
    TILES = 8
};

/* The operand of LDTILECFG.  Source: Intel SDM vol. 1, section 18 (palette 1). */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config __attribute__((aligned(64)));

#if defined(PERI_AMX_EMULATED)

void amx_emulated_config(const tile_config *c);
void amx_emulated_release(void);
void amx_emulated_zero(int t);
void amx_emulated_load(int t, const void *p, size_t stride);
void amx_emulated_store(int t, void *p, size_t stride);
void amx_emulated_dot(int c, int a, int b);
void amx_emulated_dot_su(int c, int a, int b);
void amx_emulated_dot_us(int c, int a, int b);
void amx_emulated_dot_bf16(int c, int a, int b);
#define tile_configure(c)         amx_emulated_config(c)
#define tile_release()            amx_emulated_release()
#define tile_zero(t)              amx_emulated_zero(t)
#define tile_load_at(t, p, d, s)  amx_emulated_load(t, (const uint8_t *)(p) + (d), s)
#define tile_store_at(t, p, d, s) amx_emulated_store(t, (uint8_t *)(p) + (d), s)
#define tile_load(t, p, s)        tile_load_at(t, p, 0, s)
#define tile_store(t, p, s)       tile_store_at(t, p, 0, s)
#define tile_dot(c, a, b)         amx_emulated_dot(c, a, b)
#define tile_dot_su(c, a, b)      amx_emulated_dot_su(c, a, b)
#define tile_dot_us(c, a, b)      amx_emulated_dot_us(c, a, b)
#define tile_dot_bf16(c, a, b)    amx_emulated_dot_bf16(c, a, b)

#else

#define tile_configure(c) __asm__ volatile("ldtilecfg %0" ::"m"(*(c)) : "memory")
#define tile_release()    __asm__ volatile("tilerelease" ::: "memory")
#define tile_zero(t)      __asm__ volatile("tilezero %%tmm" #t ::)
#define tile_load_at(t, p, d, s)                                                                   \
    __asm__ volatile("tileloadd %c2(%0,%1,1), %%tmm" #t ::"r"(p), "r"((size_t)(s)), "i"(d)         \
                     : "memory")
#define tile_store_at(t, p, d, s)                                                                  \
    __asm__ volatile("tilestored %%tmm" #t ", %c2(%0,%1,1)" ::"r"(p), "r"((size_t)(s)), "i"(d)     \
                     : "memory")
#define tile_load(t, p, s)     tile_load_at(t, p, 0, s)
#define tile_store(t, p, s)    tile_store_at(t, p, 0, s)
#define tile_dot(c, a, b)      __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define tile_dot_su(c, a, b)   __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define tile_dot_us(c, a, b)   __asm__ volatile("tdpbusd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#define tile_dot_bf16(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)

#endif

/* amx.c.  May this process use the tiles?  Asks the processor, the state that the kernel keeps for
 * threads, and the kernel's permission, which is the whole process's and is asked for once.
 * Returns NULL, or the reason why not. */
const char *amx_missing(void);
/* The same of products of bf16, after amx_missing. */
const char *amx_bf16_missing(void);

#endif
