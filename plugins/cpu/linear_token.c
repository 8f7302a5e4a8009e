/* SPDX-License-Identifier: MIT
 *
 * linear_token.c - products of block-quantised weights with one token, a row at a time; compiled
 * for AVX-512 with VNNI.  The types with a line in `types` below; others take the way of
 * linear_vnni.c.
 *
 * Why another way for one token.  Decoding is a read of all weights, and this is the order in which
 * memory is fastest: rows follow one another, so 16 rows are one stream, which the processor's own
 * prefetching recognises. Kernels with rows in lanes read 16 streams at once and depend on prefetch
 * instructions, of which too few can be under way.  Zen 5, one thread, Q4_0: 21 GB/s there, 37
 * here, of 37 that a read with memory asked for ahead reaches.
 *
 * A register holds 64 consecutive columns of a row as unsigned bytes (linear_nibble.h: in another
 * order); vpdpbusd with as many activations gives 16 sums of four columns. Span 32: eight
 * registers, 512 columns (a unit), are added up to the integer sums of 16 blocks and multiplied by
 * their scales; 16 rows of that are transposed, and the chains of FMAs run over the blocks with
 * rows in lanes. Span 256: sums of four
 * columns fit int16 (63 * 127 * 4 = 32004), so that one vpmaddwd applies the scales of the
 * sub-blocks; the 16 partial sums of a superblock are added up together with those of 15 other
 * rows. */
#include "linear_unpack.h"

#include "linear_grid.h"
#include "linear_nibble.h"

#define HAS_MINIMA(dtype) ((dtype) == PERI_CPU_Q4_K || (dtype) == PERI_CPU_Q5_K)
/* GGUF's numbers: of the types of span 256 here, those with a grid come after the others but one.
 */
#define IS_GRID(dtype) ((dtype) >= PERI_CPU_IQ2_XXS && (dtype) != PERI_CPU_IQ4_XS)

enum {
    /* Columns of a row before the next row: what is kept of 16 rows is 43 KB at most.  Rows that
     * are longer are read in pieces, which costs more than keeping does: Zen 5, two threads, rows
     * of 8192 columns, Q4_K 53 GB/s in pieces of 4096 and 61 whole, Q6_K 55 and 71. */
    SEGMENT = 8192,
    UNIT = 512,
    N_UNIT = SEGMENT / UNIT,
    N_KB = SEGMENT / LINEAR_K,
    TAIL_BYTES = 16 * Q8_0_BYTES + 64,
    /* Bytes; past the borders of pages and of pieces, where the processor's prefetching stops
     * (Q4_K in pieces of 4096: 35 GB/s when what follows in memory was asked for). */
    AHEAD = 8192,
    NEAR = 2048,
    /* Of 16 rows of 8192 columns a ninth would be all there is of AHEAD: without this limit Q4_0
     * reads at 86 % of a plain read, with it 89, Q6_K 86 and 91, Q8_0 89 and 92. */
    MOST_LEFT = 2048,
};

/* What is kept of 16 rows and a segment. */
typedef union kept {
    float x[N_UNIT][LINEAR_ROWS]
           [16]; /* span 32: block sums as they enter the chain, in the order of places_of */
    struct {
        __m512i t[LINEAR_ROWS];    /* to be added up */
        __m128i head[LINEAR_ROWS]; /* Q4_K, Q5_K: f16 d, f16 dmin, scales and minima */
        uint16_t d[LINEAR_ROWS];   /* others: f16 d */
    } kb[N_KB];
} kept;

/* Columns of a segment, of 16 rows or fewer. */
typedef struct segment {
    const uint8_t *w, *next; /* row 0 of this one, and of the one that is read after it */
    const uint8_t *end;      /* of what may be read */
    size_t stride;
    int32_t rows, n_ahead; /* rows in AHEAD bytes */
    int in_two;            /* memory is asked for twice, see is_asked_in_two */
    int n;                 /* columns */
    const act8 *a[N_KB];
} segment;

/* What is read AHEAD bytes after row r.  May be behind everything: no object's address. */
SIMD_FN uintptr_t ahead_of(const segment *g, int32_t r) {
    int32_t at = r + g->n_ahead;
    if (at < g->rows) return (uintptr_t)g->w + (size_t)at * g->stride;
    return (uintptr_t)g->next + (size_t)(at - g->rows) * g->stride;
}

/* On processors of Intel memory is asked for twice: AHEAD bytes before it is used into the second
 * cache, which has 48 requests under way where the first has 16, and from there NEAR bytes before.
 * Sapphire Rapids, two threads, against all at once into the first, while a plain read took 32 and
 * 24 GB/s: Q4_0 10 and 4 % faster, Q4_K 5 and 3, Q8_0 6 and -1, Q6_K 1 and 1.  Others ask once. */
static int is_asked_in_two(void) {
    return __builtin_cpu_is("intel");
}

/* far: what is asked for now; p: what is read now, of which `bytes` follow. */
SIMD_FN void prefetch(int in_two, uintptr_t far, int far_bytes, const uint8_t *p, int bytes) {
    uintptr_t near = (uintptr_t)p + NEAR;
    if (!in_two) {
#pragma GCC unroll 9
        for (int i = 0; i < far_bytes; i += 64)
            _mm_prefetch((const char *)(far + (uintptr_t)i), _MM_HINT_T0);
        return;
    }
#pragma GCC unroll 9
    for (int i = 0; i < far_bytes; i += 64)
        _mm_prefetch((const char *)(far + (uintptr_t)i), _MM_HINT_T1);
#pragma GCC unroll 9
    for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)(near + (uintptr_t)i), _MM_HINT_T0);
}

/* Memory to be asked for while sums of 16 rows are added up, so that it does not idle meanwhile:
 * with rows as the only ones to ask, Q4_0 read 31 GB/s where one thread can read 37 (Zen 5), Q4_K
 * 3 % less (Sapphire Rapids, two threads).  Rows that follow one another leave it a part of each.
 */
typedef struct wanted {
    uintptr_t at, end;
    int in_two;
} wanted;

SIMD_FN wanted wanted_of(const segment *g, int in_two) {
    uintptr_t at = (uintptr_t)g->w + AHEAD;
    return (wanted){at, at + (size_t)g->rows * g->stride, in_two};
}

SIMD_FN void ask_to(wanted *m, uintptr_t end) {
    for (; m->at < end; m->at += 64)
        if (m->in_two)
            _mm_prefetch((const char *)m->at, _MM_HINT_T1);
        else
            _mm_prefetch((const char *)m->at, _MM_HINT_T0);
}

/* The n-th part of what is left. */
SIMD_FN void ask(wanted *m, int n) {
    if (m->end > m->at) ask_to(m, m->at + (m->end - m->at) / (unsigned)n);
}

/* Before row r, when rows leave a part: MOST_LEFT at most. */
SIMD_FN void catch_up(const segment *g, wanted *m, int32_t r) {
    ask_to(m, (uintptr_t)g->w + AHEAD - MOST_LEFT + (size_t)r * g->stride);
}

/* ---- span 32 ---- */

/* Where block b of a unit is left by block_sums (and the block at a place), and by quad_sums. */
static const uint8_t block_at[16] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15};
static const uint8_t block_from[16] = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15};
static const uint8_t quad_at[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};

SIMD_FN const uint8_t *places_of(uint16_t dtype) {
    return IS_NIBBLE(dtype) ? quad_at : block_at;
}

/* What 16 rows share of a unit: activations as weights come, and their offsets. */
typedef struct unit_act {
    vi x[8], off;
} unit_act;

SIMD_FN vi add_pairs32(vi a, vi b) {
    return vi_add32(vi_unlo32(a, b), vi_unhi32(a, b));
}
SIMD_FN vi add_pairs64(vi a, vi b) {
    return vi_add32(vi_unlo64(a, b), vi_unhi64(a, b));
}

/* Each register holds 8 partial sums of two blocks. */
SIMD_FN vi block_sums(const vi s[8]) {
    vi a = add_pairs64(add_pairs32(s[0], s[1]), add_pairs32(s[2], s[3]));
    vi b = add_pairs64(add_pairs32(s[4], s[5]), add_pairs32(s[6], s[7]));
    return vi_add32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* Four registers hold 4 partial sums of four blocks each. */
SIMD_FN vi quad_sums(const vi s[4]) {
    return add_pairs64(add_pairs32(s[0], s[1]), add_pairs32(s[2], s[3]));
}

/* The same, added to `start`, of sums that fit int16 two by two (Q4_0: 2 * 8 * 15 * 127 = 30480):
 * packing takes one shuffle where add_pairs takes two. */
SIMD_FN vi quad_sums16(const vi s[4], vi start) {
    const vi one = vi_set1_16(1);
    vi a = vi_madd16(_mm512_packs_epi32(s[0], s[1]), one);
    vi b = vi_madd16(_mm512_packs_epi32(s[2], s[3]), one);
    return vi_dot16(start, _mm512_packs_epi32(a, b), one);
}

/* The f16 that begin 16 blocks of 34 bytes, where block_sums has them: as many per permutation as
 * lie within 128 bytes. */
SIMD_FN vf q8_0_scales(const uint8_t *p) {
    static const uint16_t at[32] = {0, 34, 0, 34, 17, 51, 17, 51, 0, 34, 0, 34, 17, 51, 17, 51};
    vi index = vi_load(at), x = vi_set1(0);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++, p += 136) {
        vi y = _mm512_permutex2var_epi16(vi_load(p), index, vi_load(p + 64));
        x = _mm512_mask_blend_epi16((i % 2 ? 0xccu : 0x33u) << i / 2 * 8, x, y);
    }
    return _mm512_cvtph_ps(_mm512_castsi512_si256(x));
}

/* Columns of two blocks of Q8_0 as unsigned bytes. */
SIMD_FN vi q8_0_weights(const uint8_t *p) {
    vi low = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(p + 2)));
    const __m256i *high = (const __m256i *)(p + 36);
    return vi_xor(_mm512_inserti64x4(low, _mm256_loadu_si256(high), 1), vi_set1_8(0x80));
}

SIMD_FN void unit_of(uint16_t dtype, const act8 *const a[2], unit_act *out) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const int8_t *q = a[i / 2]->q + i % 2 * 128;
        if (IS_NIBBLE(dtype)) {
            quad_of(q, out->x + 2 * i);
        } else {
            out->x[2 * i] = vi_load(q);
            out->x[2 * i + 1] = vi_load(q + 64);
        }
    }
    vi off = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)a[0]->off));
    off = _mm512_inserti64x4(off, _mm256_loadu_si256((const __m256i *)a[1]->off), 1);
    const uint8_t *from = IS_NIBBLE(dtype) ? quad_at : block_from; /* quad_at is its own inverse */
    out->off =
        _mm512_permutexvar_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from)), off);
}

/* The dot products of 512 columns of one row of nibbles, which are added up after those of the next
 * 512.  One after the other, most instructions wait for one just before them, and among the 100 or
 * so waiting ones that a processor looks through are too few others: 26.5 cycles, and 36.5 while
 * its twin was busy, so 25.6 and 31.5 (Sapphire Rapids). */
typedef struct dots {
    vi s[4];
    vf scales;
    const unit_act *a;
    float *out;
} dots;

SIMD_FN void add_up(uint16_t dtype, const dots *d) {
    vi sums = dtype == PERI_CPU_Q4_0 ? quad_sums16(d->s, d->a->off)
                                     : vi_add32(quad_sums(d->s), d->a->off);
    vf_store(d->out, vf_mul(vf_cvt(sums), d->scales));
}

SIMD_FN void nibbles32(uint16_t dtype, int bytes, const uint8_t *p, dots *d) {
    const unit_act *a = d->a;
    vi r[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const uint8_t *quad = p + 4 * i * bytes;
        if (dtype != PERI_CPU_MXFP4) r[i] = load18(quad);
        vi q = dtype == PERI_CPU_MXFP4 ? quad17(quad) : quad18(quad, r[i]);
        d->s[i] = quad_dot(dtype, vi_set1(0), q, a->x + 2 * i);
    }
    d->scales = dtype == PERI_CPU_MXFP4 ? mxfp4_scales(p) : scales18(r);
}

/* 512 columns of one row, to out; of nibbles the sums of the call before. */
SIMD_FN void unit32(uint16_t dtype, int bytes, const uint8_t *p, const unit_act *a, float *out,
                    dots *before) {
    if (IS_NIBBLE(dtype)) {
        dots now = {.a = a, .out = out};
        nibbles32(dtype, bytes, p, &now);
        add_up(dtype, before);
        *before = now;
        return;
    }
    vi s[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        s[i] = vi_dot(vi_set1(0), q8_0_weights(p + 2 * i * bytes), a->x[i]);
    vf_store(out, vf_mul(vf_cvt(vi_add32(block_sums(s), a->off)), q8_0_scales(p)));
}

/* v[i]: lanes are rows, i a place. */
SIMD_FN void transpose16(const float (*x)[16], vf v[16]) {
    vi a[16], b[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) { /* 4 x 4 within 128-bit lanes */
        vi r0 = vi_load(x[i]), r1 = vi_load(x[i + 1]), r2 = vi_load(x[i + 2]),
           r3 = vi_load(x[i + 3]);
        vi t0 = vi_unlo32(r0, r1), t1 = vi_unhi32(r0, r1), t2 = vi_unlo32(r2, r3),
           t3 = vi_unhi32(r2, r3);
        a[i] = vi_unlo64(t0, t2);
        a[i + 1] = vi_unhi64(t0, t2);
        a[i + 2] = vi_unlo64(t1, t3);
        a[i + 3] = vi_unhi64(t1, t3);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) { /* a[4 g + j]: places j, 4 + j, 8 + j, 12 + j of rows 4 g .. */
        b[0] = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88);
        b[1] = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd);
        b[2] = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88);
        b[3] = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd);
        v[j] = vf_bits(_mm512_shuffle_i32x4(b[0], b[2], 0x88));
        v[8 + j] = vf_bits(_mm512_shuffle_i32x4(b[0], b[2], 0xdd));
        v[4 + j] = vf_bits(_mm512_shuffle_i32x4(b[1], b[3], 0x88));
        v[12 + j] = vf_bits(_mm512_shuffle_i32x4(b[1], b[3], 0xdd));
    }
}

SIMD_FN vf chains32(uint16_t dtype, const kept *k, int n_block, const act8 *const *a, vf acc,
                    wanted m) {
    const uint8_t *at = places_of(dtype);
    int u = 0;
    vf v[16];
    for (; u < n_block / 16; u++, a += 2) {
        ask(&m, (n_block + 15) / 16 - u);
        transpose16(k->x[u], v);
#pragma GCC unroll 16
        for (int b = 0; b < 16; b++)
            acc = vf_fma(v[at[b]], vf_set1(a[b / 8]->dx[b % 8]), acc);
    }
    if (n_block % 16) {
        float x[16][16];
        ask(&m, 1);
        transpose16(k->x[u], v);
#pragma GCC unroll 16
        for (int b = 0; b < 16; b++)
            vf_store(x[b], v[b]);
        for (int b = 0; b < n_block % 16; b++)
            acc = vf_fma(vf_load(x[at[b]]), vf_set1(a[b / 8]->dx[b % 8]), acc);
    }
    return acc;
}

/* ---- span 256 ---- */

/* The unsigned bytes of columns 64 c .. of a superblock.  Q4_K and Q5_K: of the sub-blocks whose
 * nibbles lie side by side, 4 (c / 2) + c % 2 and the next but one. */
SIMD_FN vi weights256(uint16_t dtype, const uint8_t *p, int c) {
    const vi low = vi_set1_8(15);
    const vi bit = _mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1);
    const vi bits2 = _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2);
    if (dtype == PERI_CPU_Q6_K) { /* c / 2: half; c % 2: nibble */
        vi q = vi_load(p + c / 2 * 64), top = vi_set1_8(0x30);
        const __m256i *high = (const __m256i *)(p + 128 + c / 2 * 32);
        vi h = _mm512_srlv_epi64(_mm512_broadcast_i64x4(_mm256_loadu_si256(high)), bits2);
        if (c % 2 == 0) return vi_or(vi_and(q, low), vi_and(vi_shl16(h, 4), top));
        return vi_or(vi_and(vi_shr16(q, 4), low), vi_and(h, top));
    }
    if (dtype == PERI_CPU_Q3_K) { /* c / 2: half */
        const __m256i *pairs = (const __m256i *)(p + 32 + c / 2 * 32);
        vi q = _mm512_srlv_epi64(_mm512_broadcast_i64x4(_mm256_loadu_si256(pairs)), bits2);
        vi h = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)p));
        h = _mm512_srlv_epi64(h, bit);
        h = c < 2 ? vi_shl16(h, 2 - 2 * c) : vi_shr16(h, 2 * c - 2);
        if (c % 2) q = vi_shr16(q, 4);
        return vi_or(vi_and(q, vi_set1_8(3)), vi_and(h, vi_set1_8(4)));
    }
    const uint8_t *at = p + (dtype == PERI_CPU_Q5_K ? 48 : 16) + c / 2 * 64; /* c % 2: nibble */
    vi q = vi_load(at);
    q = vi_and(c % 2 ? vi_shr16(q, 4) : q, low);
    if (dtype == PERI_CPU_Q4_K) return q;
    vi h = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(p + 16)));
    h = _mm512_srlv_epi64(h, bits2);
    h = c < 2 ? vi_shl16(h, 4 - c) : vi_shr16(h, c - 2);
    return vi_or(q, vi_and(h, vi_set1_8(16)));
}

/* Scales of Q4_K and Q5_K: d, dmin, then 12 bytes v0 v1 v2 of four (linear_unpack.h), all of which
 * each 128-bit lane of head holds.  Sub-blocks 0 to 3: the low 6 bits of v0, minima of v1; 4 to 7:
 * the low half of v2, minima the high half, and above these the top 2 bits of v0, minima of v1.
 * first: scales of sub-blocks 0 and 1 in lanes 0 and 1, of 2 and 3 in the others, four words each;
 * last: of 4 to 7 likewise. */
SIMD_FN vi six_bits_first(vi head) {
    const vi at =
        _mm512_setr_epi32((int)0x80048004, (int)0x80048004, (int)0x80058005, (int)0x80058005,
                          (int)0x80048004, (int)0x80048004, (int)0x80058005, (int)0x80058005,
                          (int)0x80068006, (int)0x80068006, (int)0x80078007, (int)0x80078007,
                          (int)0x80068006, (int)0x80068006, (int)0x80078007, (int)0x80078007);
    return vi_and(vi_shuffle8(head, at), vi_set1_16(63));
}
SIMD_FN vi six_bits_last(vi head) {
    const vi at = _mm512_setr_epi32(0x040c040c, 0x040c040c, 0x050d050d, 0x050d050d, /**/
                                    0x040c040c, 0x040c040c, 0x050d050d, 0x050d050d, /**/
                                    0x060e060e, 0x060e060e, 0x070f070f, 0x070f070f, /**/
                                    0x060e060e, 0x060e060e, 0x070f070f, 0x070f070f);
    vi w = vi_shuffle8(head, at);
    return vi_or(vi_and(w, vi_set1_16(15)), vi_and(vi_shr16(w, 10), vi_set1_16(48)));
}
/* Minima of sub-blocks 0 to 7, a word each, of the four rows whose heads the lanes hold. */
SIMD_FN vi six_bits_minima(vi head) {
    const vi at = vi_lane(_mm_setr_epi32((int)0x80098008, (int)0x800b800a, 0x090d080c, 0x0b0f0a0e));
    const vi bits = _mm512_set4_epi32(0x00040004, 0x00040004, 0, 0);
    const vi mask = _mm512_set4_epi32(0x000f000f, 0x000f000f, 0x003f003f, 0x003f003f);
    vi w = vi_shuffle8(head, at);
    return vi_or(vi_and(_mm512_srlv_epi16(w, bits), mask), vi_and(vi_shr16(w, 10), vi_set1_16(48)));
}

/* sum_j sc_j sum_k q a as 16 partial sums; scales: an int16 for each four columns of s[0] and s[1],
 * of s[2] and s[3], in the order of the pack instruction. */
SIMD_FN vi scaled(const vi s[4], vi scale01, vi scale23) {
    vi t = vi_madd16(_mm512_packs_epi32(s[0], s[1]), scale01);
    return vi_dot16(t, _mm512_packs_epi32(s[2], s[3]), scale23);
}

/* The same with 16 scales of 16 columns: lane l of s[c] is sub-block 4 c + l. */
SIMD_FN vi scaled16(const vi s[4], __m128i scales) {
    static const uint16_t at[32] = {0, 0, 0, 0, 4, 4, 4, 4, 1, 1, 1, 1, 5, 5, 5, 5,
                                    2, 2, 2, 2, 6, 6, 6, 6, 3, 3, 3, 3, 7, 7, 7, 7};
    vi words = _mm512_castsi256_si512(_mm256_cvtepi8_epi16(scales)), at01 = vi_load(at);
    vi at23 = _mm512_add_epi16(at01, vi_set1_16(8));
    return scaled(s, _mm512_permutexvar_epi16(at01, words), _mm512_permutexvar_epi16(at23, words));
}

/* The IQ2 and IQ3 types: signs are moved to the activations, so that weights are magnitudes and
 * four products fit int16 (62 * 127 * 4 = 31496). */
SIMD_FN void grid_superblock(uint16_t dtype, const uint8_t *p, const act8 *a, kept *k, int kb,
                             int r) {
    vi s[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        vi x = vi_load(a->q + 64 * c);
        x = _mm512_mask_sub_epi8(x, grid_signs(dtype, p, c), vi_set1(0), x);
        s[c] = vi_dot(vi_set1(0), grid_magnitudes(dtype, p, c), x);
    }
    k->kb[kb].t[r] = scaled16(s, grid_scales(dtype, p));
    memcpy(&k->kb[kb].d[r], p, 2);
}

/* What 16 rows share of 256 activations.  Types with minima: they, in the order of weights256.
 * Q3_K: what dot products start with, which takes the weights' offset away before the scales, in
 * place of four instructions after them (9 % faster from L2; Q6_K gains nothing). */
SIMD_FN void shared_of(uint16_t dtype, const act8 *a, vi out[4]) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        vi x = vi_load(a->q + 128 * i), y = vi_load(a->q + 128 * i + 64);
        if (HAS_MINIMA(dtype)) {
            out[2 * i] = _mm512_shuffle_i32x4(x, y, 0x44);
            out[2 * i + 1] = _mm512_shuffle_i32x4(x, y, 0xee);
        } else {
            out[2 * i] = _mm512_sub_epi32(vi_set1(0), vi_dot(vi_set1(0), vi_set1_8(4), x));
            out[2 * i + 1] = _mm512_sub_epi32(vi_set1(0), vi_dot(vi_set1(0), vi_set1_8(4), y));
        }
    }
}

/* 256 columns of one row. */
SIMD_FN void superblock256(uint16_t dtype, const uint8_t *p, const act8 *a, const vi *shared,
                           kept *k, int kb, int r) {
    vi s[4];
    if (IS_GRID(dtype)) {
        grid_superblock(dtype, p, a, k, kb, r);
        return;
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++)
        s[c] = vi_dot(dtype == PERI_CPU_Q3_K ? shared[c] : vi_set1(0), weights256(dtype, p, c),
                      HAS_MINIMA(dtype) ? shared[c] : vi_load(a->q + 64 * c));
    if (dtype == PERI_CPU_Q3_K) {
        k->kb[kb].t[r] = scaled16(s, q3_k_scales(p + 96));
        memcpy(&k->kb[kb].d[r], p + 108, 2);
        return;
    }
    if (dtype == PERI_CPU_Q6_K) {
        __m128i sc = _mm_loadu_si128((const __m128i *)(p + 192));
        vi off = vi_mul32(_mm512_cvtepi8_epi32(sc), vi_load(a->off));
        k->kb[kb].t[r] = vi_add32(scaled16(s, sc), off);
        memcpy(&k->kb[kb].d[r], p + 208, 2);
        return;
    }
    vi head = vi_lane(_mm_loadu_si128((const __m128i *)p));
    k->kb[kb].t[r] = scaled(s, six_bits_first(head), six_bits_last(head));
    k->kb[kb].head[r] = _mm512_castsi512_si128(head);
}

/* The totals of 16 registers. */
SIMD_FN vi row_sums(const vi t[16]) {
    vi q[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) /* lane l of q[i]: rows 4 i .. of quarter l */
        q[i] = add_pairs64(add_pairs32(t[4 * i], t[4 * i + 1]),
                           add_pairs32(t[4 * i + 2], t[4 * i + 3]));
    vi a = vi_add32(_mm512_shuffle_i32x4(q[0], q[1], 0x88), _mm512_shuffle_i32x4(q[0], q[1], 0xdd));
    vi b = vi_add32(_mm512_shuffle_i32x4(q[2], q[3], 0x88), _mm512_shuffle_i32x4(q[2], q[3], 0xdd));
    return vi_add32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

/* From rows 4 i + l at place i of 128-bit lane l. */
SIMD_FN vi rows_in_lanes(vi x) {
    return _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}

/* t d - u dmin of 16 rows; u: minima times the sums of activations. */
SIMD_FN vf with_minima(vi t, const __m128i head[16], const act8 *a) {
    vi sum = vi_lane_at(a->sum), h[4], m[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        h[i] = vi_load(head + 4 * i);
        m[i] = vi_madd16(six_bits_minima(h[i]), sum);
    }
    vi u = add_pairs64(add_pairs32(m[0], m[1]), add_pairs32(m[2], m[3]));
    vi d = rows_in_lanes(vi_unlo64(vi_unlo32(h[0], h[1]), vi_unlo32(h[2], h[3])));
    return vf_fnma(vf_cvt(rows_in_lanes(u)), vf_f16_low(vi_shr32(d, 16)),
                   vf_mul(vf_cvt(t), vf_f16_low(d)));
}

SIMD_FN vf chains256(uint16_t dtype, const kept *k, int n_kb, const act8 *const *a, vf acc,
                     wanted m) {
    for (int kb = 0; kb < n_kb; kb++) {
        ask(&m, n_kb - kb);
        vi t = row_sums(k->kb[kb].t);
        vf x;
        if (HAS_MINIMA(dtype)) {
            x = with_minima(t, k->kb[kb].head, a[kb]);
        } else {
            vf d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)k->kb[kb].d));
            if (IS_GRID(dtype)) d = vf_mul(d, vf_set1(grid_factor(dtype)));
            x = vf_mul(vf_cvt(t), d);
        }
        acc = vf_fma(x, vf_set1(a[kb]->dx[0]), acc);
    }
    return acc;
}

/* ---- rows ---- */

SIMD_FN vf segment32(uint16_t dtype, int bytes, const segment *g, int in_two, kept *k, vf acc) {
    unit_act act[N_UNIT];
    dots before = {.a = act, .out = k->x[0][0]}; /* zeros, where the first sums will be */
    int n_block = g->n / 32, n_full = n_block / 16 * 16, lines = 16 * bytes / 64 * 64;
    int is_whole = g->stride == (size_t)(n_block * bytes); /* rows follow one another */
    wanted m = wanted_of(g, in_two);
    for (int u = 0; u * 16 < n_block; u++)
        unit_of(dtype, g->a + 2 * u, act + u);
    for (int32_t r = 0; r < g->rows; r++) {
        const uint8_t *p = g->w + (size_t)r * g->stride;
        int b = 0;
        if (is_whole)
            catch_up(g, &m, r);
        else
            m.at = ahead_of(g, r);
        for (; b < n_full; b += 16, p += 16 * bytes) {
            prefetch(m.in_two, m.at, lines, p, 16 * bytes);
            m.at += (unsigned)(is_whole ? lines : 16 * bytes);
            unit32(dtype, bytes, p, act + b / 16, k->x[b / 16][r], &before);
        }
        if (b < n_block && !is_whole) prefetch(m.in_two, m.at, 16 * bytes, p, 16 * bytes);
        if (b < n_block && g->end - p >= 16 * bytes) { /* the next row's blocks are dropped */
            unit32(dtype, bytes, p, act + b / 16, k->x[b / 16][r], &before);
        } else if (b < n_block) {
            uint8_t tail[TAIL_BYTES] = {0};
            memcpy(tail, p, (size_t)((n_block - b) * bytes));
            unit32(dtype, bytes, tail, act + b / 16, k->x[b / 16][r], &before);
        }
    }
    if (IS_NIBBLE(dtype)) add_up(dtype, &before);
    if (!is_whole) m.end = m.at;
    return chains32(dtype, k, n_block, g->a, acc, m);
}

SIMD_FN vf segment256(uint16_t dtype, int bytes, const segment *g, int in_two, kept *k, vf acc) {
    int n_kb = g->n / LINEAR_K;
    int is_whole = g->stride == (size_t)(n_kb * bytes), step = is_whole ? bytes / 64 * 64 : bytes;
    wanted m = wanted_of(g, in_two);
    nibble256 act[N_KB]; /* IQ4_XS only */
    for (int kb = 0; kb < n_kb && dtype == PERI_CPU_IQ4_XS; kb++)
        nibble256_of(g->a[kb], act + kb);
    vi shared[N_KB][4]; /* Q3_K and those with minima */
    for (int kb = 0; kb < n_kb && (HAS_MINIMA(dtype) || dtype == PERI_CPU_Q3_K); kb++)
        shared_of(dtype, g->a[kb], shared[kb]);
    for (int32_t r = 0; r < g->rows; r++) {
        const uint8_t *p = g->w + (size_t)r * g->stride;
        if (is_whole)
            catch_up(g, &m, r);
        else
            m.at = ahead_of(g, r);
        for (int kb = 0; kb < n_kb; kb++, p += bytes, m.at += (unsigned)step) {
            prefetch(m.in_two, m.at, step, p, bytes);
            if (dtype == PERI_CPU_IQ4_XS) {
                k->kb[kb].t[r] = iq4_xs_sums(p, act + kb);
                memcpy(&k->kb[kb].d[r], p, 2);
            } else
                superblock256(dtype, p, g->a[kb], shared[kb], k, kb, r);
        }
    }
    if (!is_whole) m.end = m.at;
    return chains256(dtype, k, n_kb, g->a, acc, m);
}

/* With in_two as a literal: as a variable it takes Q4_0 3 % longer. */
#define SEGMENT_OF(name, span, dtype, bytes)                                                       \
    static vf segment_##name(const segment *g, kept *k, vf acc) {                                  \
        return g->in_two ? segment##span(dtype, bytes, g, 1, k, acc)                               \
                         : segment##span(dtype, bytes, g, 0, k, acc);                              \
    }
SEGMENT_OF(q4_0, 32, PERI_CPU_Q4_0, 18)
SEGMENT_OF(q8_0, 32, PERI_CPU_Q8_0, 34)
SEGMENT_OF(iq4_nl, 32, PERI_CPU_IQ4_NL, 18)
SEGMENT_OF(mxfp4, 32, PERI_CPU_MXFP4, 17)
SEGMENT_OF(q3_k, 256, PERI_CPU_Q3_K, 110)
SEGMENT_OF(q4_k, 256, PERI_CPU_Q4_K, 144)
SEGMENT_OF(q5_k, 256, PERI_CPU_Q5_K, 176)
SEGMENT_OF(q6_k, 256, PERI_CPU_Q6_K, 210)
SEGMENT_OF(iq4_xs, 256, PERI_CPU_IQ4_XS, 136)
SEGMENT_OF(iq2_xxs, 256, PERI_CPU_IQ2_XXS, 66)
SEGMENT_OF(iq2_xs, 256, PERI_CPU_IQ2_XS, 74)
SEGMENT_OF(iq2_s, 256, PERI_CPU_IQ2_S, 82)
SEGMENT_OF(iq3_xxs, 256, PERI_CPU_IQ3_XXS, 98)
SEGMENT_OF(iq3_s, 256, PERI_CPU_IQ3_S, 110)

static const struct {
    uint16_t dtype;
    vf (*segment)(const segment *g, kept *k, vf acc);
} types[] = {
    {PERI_CPU_Q4_0, segment_q4_0},       {PERI_CPU_Q8_0, segment_q8_0},
    {PERI_CPU_IQ4_NL, segment_iq4_nl},   {PERI_CPU_MXFP4, segment_mxfp4},
    {PERI_CPU_IQ4_XS, segment_iq4_xs},   {PERI_CPU_Q3_K, segment_q3_k},
    {PERI_CPU_Q4_K, segment_q4_k},       {PERI_CPU_Q5_K, segment_q5_k},
    {PERI_CPU_Q6_K, segment_q6_k},       {PERI_CPU_IQ2_XXS, segment_iq2_xxs},
    {PERI_CPU_IQ2_XS, segment_iq2_xs},   {PERI_CPU_IQ2_S, segment_iq2_s},
    {PERI_CPU_IQ3_XXS, segment_iq3_xxs}, {PERI_CPU_IQ3_S, segment_iq3_s},
};

int linear_token(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    kept k;
    size_t i = 0;
    while (i < sizeof types / sizeof *types && types[i].dtype != in->type->dtype)
        i++;
    if (i == sizeof types / sizeof *types) return 0;
    vf sum = vf_set1(0.0f);
    if (rows < LINEAR_ROWS) memset(&k, 0, sizeof k); /* of rows that are not there */
    const uint8_t *w = in->w + (size_t)row0 * in->row_bytes;
    segment g = {.next = w,
                 .end = in->w + (size_t)in->m * in->row_bytes,
                 .stride = in->row_bytes,
                 .rows = rows,
                 .in_two = is_asked_in_two()};
    for (int64_t col = 0; col < in->n; col += SEGMENT) {
        int64_t last = (in->n - 1) / LINEAR_K, left = in->n - col - SEGMENT;
        int bytes = SEGMENT / in->type->block * in->type->block_bytes;
        g.n = left < 0 ? (int)(left + SEGMENT) : SEGMENT;
        if (left < 0) bytes = g.n / in->type->block * in->type->block_bytes;
        g.w = g.next;
        g.next = left > 0 ? g.w + bytes : w + LINEAR_ROWS * in->row_bytes;
        g.n_ahead = (AHEAD + bytes - 1) / bytes;
        int n_kb = (g.n + UNIT - 1) / UNIT * (UNIT / LINEAR_K);
        for (int kb = 0; kb < n_kb; kb++) { /* behind the last: any, its products are dropped */
            int64_t at = col / LINEAR_K + kb < last ? col / LINEAR_K + kb : last;
            g.a[kb] = (const act8 *)(in->act + (size_t)at * in->kb_stride);
        }
        sum = types[i].segment(&g, &k, sum);
    }
    vf_store(acc, sum);
    return 1;
}
