/* SPDX-License-Identifier: MIT
 *
 * linear_amx.c - products of block-quantised weights with int8 activations of many tokens on the
 * tiles of AMX-INT8.  The integer sums are exact, what follows is linear_vnni.c's arithmetic: the
 * same bits.  Up to LINEAR_VECTORS tokens are left to it altogether: with 3072 x 1024 and two
 * threads 16 and 24 tokens of Q4_0 take 209 and 223 GMAC/s here, 214 and 350 there, 32 take 335 and
 * 278; other types are like it.
 *
 * Weights are read in place: 16 rows times 256 columns are unpacked by linear_unpack.h into a panel
 * in L1, which is B's order already (a row of a tile = four columns of 16 rows of weights), and
 * become signed bytes.  A tiles are loaded from the activations as they lie: 384 bytes from token
 * to token spread over the sets of L1.
 *
 * Span 32.  A scale belongs to 32 columns (NVFP4: 16), so a tile product sums 32: rows of A are 32
 * bytes, B has 8 rows.  A product takes 16 cycles whatever its depth, only rows of A count, but
 * loads count rows.  Sums of 16 columns have tiles with zeros in the other half, which two share:
 *
 *     rows of 64 bytes:   [ sum 0 ][ zeros ][ sum 1 ]      tile 0 begins at sum 0, tile 1 at zeros
 *
 * Span 256.  Weights are two planes of bytes (linear_amx.h): one exact sum per superblock.  A
 * and B are 64 deep.
 *
 * A step takes 16 tokens times two groups of 16 rows times 64 columns (32 for NVFP4) or, of span
 * 256, all 256 through the tiles, and between its tile instructions stand the vector instructions
 * of the step before it, whose sums lie in the other of two buffers.  Of span 32, the four B tiles
 * of a step stay for those of CHUNK times 16 tokens, before these go on to the next columns.
 *
 * What bounds it, in cycles, measured in loops of these instructions (Sapphire or Emerald Rapids):
 * a product 16, a load of 16 rows 10, a store 16 of one of the two ports of vectors, whose
 * multiplier is that of the tiles: beside them FMAs, multiplications and conversions have the other
 * port alone (linear_amx.h, MAGIC).  So the sums of span 32 take 32 cycles for 8192
 * multiplications, and with a conversion and a multiplication in place of the first FMA 48, where
 * such a loop over memory in L2 reaches 57.  A processor whose other thread uses the tiles too
 * takes 51 cycles for a product and as many for a load: so B is loaded by 8 rows where that is
 * enough, the tiles of C start by TILEZERO (starting them as MAGIC is a load: 72 cycles in all
 * without, 118 with it), loads are few (four products of span 32 and the vectors beside them,
 * alone: with six loads 330 cycles, with two 225; without another user 174 and 153), and what is
 * used at once stays well below the 48 KB of L1: steps of 32 tokens took 17 % longer and more, of
 * four groups 50 % and more.  A sum added to the one before it, to be taken off by the vectors,
 * saves TILEZERO and costs more: products wait for each other.  CHUNK 4 is 8 to 12 %
 * slower than 2, 3 and 6 to 8; why was not found. */
#include "linear_unpack.h"

#include "amx.h"
#include "linear_amx.h"

#if !PERI_VNNI || !defined(PERI_AVX512)
#error "linear_amx.c is compiled with AVX-512 and VNNI"
#endif

enum {
    GROUPS = LINEAR_GROUPS,
    FLAT_ROWS = 8,   /* of a B tile of span 32 */
    FLAT_BYTES = 32, /* of a row of A then */
    SUMS = 2,        /* of a step and group: of columns, or the planes */
    RUNS = LINEAR_K / TILE_ROW_BYTES,
    CHUNK = 3 /* tiles of tokens, span 32, for which B tiles are loaded once */
};

/* Tiles of weights: of each block of 32 columns those of each group, or of each 64 columns each
 * group's planes. */
typedef struct tiles {
    uint8_t b[GROUPS * RUNS * 2 * TILE_BYTES];
} tiles __attribute__((aligned(64)));

/* int32 [sum][group][token][row].  The line after each sum keeps its loads from looking like those
 * of the sums stored before it: a processor compares the last 12 bits of addresses. */
enum { SUM_BYTES = TILE_BYTES + 64 };
typedef struct sums {
    uint8_t v[SUMS * GROUPS * SUM_BYTES];
} sums __attribute__((aligned(64)));

/* 16 tokens at most, on their way: their products of some columns, which the tiles leave in s, join
 * acc. */
typedef struct step {
    const act8 *a, *tile; /* as they lie; with zeros behind the last */
    float *acc[GROUPS];
    uint8_t *s;
    float *y; /* of the first group's rows, once their sums are whole; NULL: they stay in acc */
    size_t y_stride;
    int n;                       /* tokens */
    int first, n_block, is_last; /* span 32: blocks of 32 columns; the last of these tokens */
    __mmask16 is_sum;            /* acc has sums already; bits of 0: they begin */
} step;

SIMD_FN vf acc_at(const step *o, int g, int t) {
    return _mm512_maskz_loadu_ps(o->is_sum, o->acc[g] + t * LINEAR_ROWS);
}

/* A product of n_group groups over one block of columns. */
typedef struct task {
    const group *g;
    panel *p;
    tiles *w;
    sums *s;      /* [2] */
    int n_block;  /* of 32 columns */
    int is_start; /* what lies in acc does not count */
    float *y;     /* of the first token, once the sums are whole; NULL: they stay in acc */
} task;

/* What makes the unpacked bytes the signed weights; types with minima have unsigned ones. */
SIMD_FN vi offset_of(const linear_type *t) {
    return vi_set1_8(t->min_sub ? 0 : t->is_wide ? -128 : -t->offset);
}

/* Blocks of 32 columns in a step. */
SIMD_FN int at_once(scheme h) {
    return h.has_two ? 1 : SUMS;
}

/* ---- sums to results ---- */

/* Of the activations 32 tokens on those of slot i, a literal. */
SIMD_FN void ask_for_next(const act8 *a, int i, int n_slot) {
    const char *next = (const char *)((uintptr_t)a + 2 * TILE_TOKENS * sizeof *a);
    int lines = TILE_TOKENS * (int)(sizeof *a / 64) / n_slot;
#pragma GCC unroll 16
    for (int k = 0; k < lines; k++)
        _mm_prefetch(next + (i * lines + k) * 64, _MM_HINT_T0);
}

/* Of the results of n tokens from `first` on the lines are asked for, to be written: they are in no
 * cache near, stores leave in turn, and those of tiles would wait behind them (512 tokens, 3072
 * rows of 1024 columns, one thread: 8 to 11 % faster so; with 2048 and 8192 columns no faster). */
SIMD_FN void own_lines(const step *o, int first, int n) {
    for (int t = first; t < first + n && t < o->n; t++)
#pragma GCC unroll 2
        for (int g = 0; g < GROUPS; g++)
            linear_own(o->y + (size_t)t * o->y_stride + g * LINEAR_ROWS);
}

/* Scales of a step's blocks. */
typedef struct few {
    vf d[SUMS][GROUPS], m[SUMS][GROUPS];
} few;
SIMD_FN few few_of(const panel *p, int n_group, int first, scheme h) {
    few c;
#pragma GCC unroll 2
    for (int b = 0; b < SUMS; b++)
#pragma GCC unroll 2
        for (int g = 0; g < GROUPS; g++) {
            size_t at = (size_t)(first + (b < at_once(h) ? b : 0)) * W;
            const panel *of = &p[g < n_group ? g : 0];
            c.d[b][g] = c.m[b][g] = vf_load(of->d + at);
            if (h.n_min || h.has_two || h.is_tame) c.m[b][g] = vf_load(of->m + at);
        }
    return c;
}

/* Sum i of group g, token t. */
SIMD_FN vi sum_at(const step *o, int i, int g, int n_group, int t) {
    return vi_load(o->s + (i * n_group + g) * SUM_BYTES + t * TILE_ROW_BYTES);
}

/* The sum of block b, or of both its halves, as it enters the chain. */
SIMD_FN vf scaled32(const step *o, const few *c, int b, int g, int t, int n_group, scheme h) {
    const act8 *a = o->a + t;
    vi x[2] = {sum_at(o, b, g, n_group, t), vi_set1(0)};
    if (h.is_tame) return tame_product(x[0], vi_set1(MAGIC_BITS), c->d[b][g], c->m[b][g]);
    if (h.has_two) x[1] = sum_at(o, 1, g, n_group, t);
    return block_sum(c->d[b][g], c->m[b][g], a, o->first + b, x, h);
}

/* n tokens of a step, from i on, and one group.  One alone is of a step that may be less than
 * whole.
 */
SIMD_FN void finish32(const step *o, const few *c, int i, int n, int g, int n_group, scheme h) {
    int n_block = n == 1 ? o->n_block : at_once(h);
    const act8 *a = o->a + i;
#pragma GCC unroll 16
    for (int t = i; t < i + n; t++, a++) {
        vf sum = acc_at(o, g, t);
#pragma GCC unroll 2
        for (int b = 0; b < n_block; b++)
            sum = vf_fma(scaled32(o, c, b, g, t, n_group, h), vf_set1(a->dx[o->first + b]), sum);
        vf_store(o->acc[g] + t * LINEAR_ROWS, sum);
    }
}
SIMD_FN void finish_all32(const step *o, const few *c, int n_group, scheme h) {
    for (int i = 0; i < o->n; i++)
        for (int g = 0; g < n_group; g++)
            finish32(o, c, i, 1, g, n_group, h);
}

/* Scales of all columns of the groups. */
typedef struct all {
    whole g[GROUPS];
} all;
SIMD_FN all all_of(const panel *p, int n_group, scheme h) {
    all c;
#pragma GCC unroll 2
    for (int g = 0; g < GROUPS; g++)
        c.g[g] = whole_of(&p[g < n_group ? g : 0], h);
    return c;
}

SIMD_FN void finish256(const step *o, const all *c, int i, int n, int n_group, scheme h) {
    const act8 *a = o->a + i;
#pragma GCC unroll 16
    for (int t = i; t < i + n; t++, a++) {
#pragma GCC unroll 2
        for (int g = 0; g < n_group; g++) {
            vi hi = sum_at(o, 0, g, n_group, t), lo = sum_at(o, 1, g, n_group, t);
            vf sum = superblock_of(&c->g[g], a,
                                   vi_add32(vi_shl32(hi, h.n_min ? HI_SHIFT_MIN : HI_SHIFT), lo),
                                   acc_at(o, g, t), h);
            vf_store(o->acc[g] + t * LINEAR_ROWS, sum);
        }
    }
}

/* ---- span 32 ---- */

/* Bytes of the tiles of one block of one group, and from a block's first sum to its second. */
SIMD_FN int flat_bytes(scheme h) {
    return (h.has_two ? 12 : FLAT_ROWS) * TILE_ROW_BYTES;
}

/* n blocks of group g's panel; one more of zeros where a step has two. */
SIMD_FN void blocks_to_tiles(const panel *p, vi offset, int n, int g, int n_group, scheme h,
                             tiles *out) {
    for (int b = 0; b < n + n % at_once(h); b++) {
        uint8_t *to = out->b + (b * n_group + g) * flat_bytes(h);
        for (int k = 0; k < FLAT_ROWS; k++, to += TILE_ROW_BYTES) {
            vi x = vi_set1(0);
            if (b < n) x = vi_add8(vi_load(p->w.u8 + (b * FLAT_ROWS + k) * TILE_ROW_BYTES), offset);
            for (int zero = 0; h.has_two && k == 4 && zero < 4; zero++, to += TILE_ROW_BYTES)
                vi_store(to, vi_set1(0));
            vi_store(to, x);
        }
    }
}

/* Slot i asks for what the next step of its tokens takes, or, after the last one, the first step of
 * those CHUNK tiles on, with their scales. */
SIMD_FN void ask_for_columns(const step *o, int i, int n_slot) {
    enum { COLUMNS = 64 };
    int each = TILE_TOKENS / n_slot;
    const char *a = (const char *)((uintptr_t)(o->a + i * each));
    const char *q =
        o->is_last ? a + CHUNK * TILE_TOKENS * sizeof *o->a : a + o->first * 32 + COLUMNS;
#pragma GCC unroll 8
    for (int t = 0; t < each; t++, q += sizeof *o->a) {
        _mm_prefetch(q, _MM_HINT_T0);
        if (o->is_last) _mm_prefetch(q + offsetof(act8, dx), _MM_HINT_T0);
    }
}

/* In between, a part of the 16 tokens of `before`, if any, is finished, and lines of y are asked
 * for where `now` will be delivered. */
SIMD_FN void slot32(const step *now, const step *before, const few *c, int i, int n_group,
                    scheme h) {
    enum { PER_BLOCK = TILE_TOKENS * 32 / LINEAR_K, EACH = TILE_TOKENS / SUMS };
    if (now->y && n_group == GROUPS)
        own_lines(now, now->first * PER_BLOCK + i * at_once(h) / SUMS, 1);
    ask_for_columns(now, i, SUMS * n_group);
    if (before) finish32(before, c, i % SUMS * EACH, EACH, i / SUMS, n_group, h);
}

SIMD_FN void store_last(const step *o, int n_group) {
    tile_store(1, o->s + (SUMS * n_group - 1) * SUM_BYTES, TILE_ROW_BYTES);
}

/* Two sums of each group of `now`, whose B tiles are loaded.  A sum is stored while the next one is
 * on its way: the last one with the next step, or by end32. */
SIMD_FN void step32(const step *now, const step *before, const few *c, int n_group, scheme h) {
    const int8_t *a = now->tile->q + now->first * 32;
    tile_load(2, a, sizeof(act8));
    tile_zero(0);
    tile_dot(0, 2, 4);
    if (before) store_last(before, n_group);
    slot32(now, before, c, 0, n_group, h);
    if (n_group == GROUPS) {
        tile_zero(1);
        tile_dot(1, 2, 5);
        tile_store(0, now->s, TILE_ROW_BYTES);
        slot32(now, before, c, 1, n_group, h);
        tile_load_at(3, a, h.has_two ? 0 : 32, sizeof(act8));
        tile_zero(0);
        tile_dot(0, 3, 6);
        tile_store_at(1, now->s, SUM_BYTES, TILE_ROW_BYTES);
        slot32(now, before, c, 2, n_group, h);
        tile_zero(1);
        tile_dot(1, 3, 7);
        tile_store_at(0, now->s, 2 * SUM_BYTES, TILE_ROW_BYTES);
        slot32(now, before, c, 3, n_group, h);
    } else {
        tile_load_at(3, a, h.has_two ? 0 : 32, sizeof(act8));
        tile_zero(1);
        tile_dot(1, 3, 6);
        tile_store(0, now->s, TILE_ROW_BYTES);
        slot32(now, before, c, 1, n_group, h);
    }
}

/* The B tiles of a step. */
SIMD_FN void columns32(const tiles *w, int first, int n_group, scheme h) {
    const int one = flat_bytes(h), second = h.has_two ? 4 * TILE_ROW_BYTES : n_group * one;
    const uint8_t *b = w->b + first * n_group * one;
    tile_load(4, b, TILE_ROW_BYTES);
    tile_load_at(6, b, second, TILE_ROW_BYTES);
    if (n_group == 1) return;
    tile_load_at(5, b, one, TILE_ROW_BYTES);
    tile_load_at(7, b, second + one, TILE_ROW_BYTES);
}

/* ---- span 256 ---- */

/* Group g's planes of each 64 columns: hi, lo. */
SIMD_FN void planes_to_tiles(const panel *p, vi offset, int g, int n_group, scheme h, tiles *out) {
    for (int j = 0; j < LINEAR_K / h.sub; j++) {
        vi sc = vi_load(p->sc + j * W);
        sc = vi_or(vi_and(sc, vi_set1(0xffff)), vi_shl32(sc, 16));
        for (int k = j * h.sub / 4; k < (j + 1) * h.sub / 4; k++) {
            vi hi, lo;
            uint8_t *to = out->b + (k / TILE_TOKENS * n_group + g) * 2 * TILE_BYTES +
                          k % TILE_TOKENS * TILE_ROW_BYTES;
            vi q = vi_add8(vi_load(p->w.u8 + k * TILE_ROW_BYTES), offset);
            if (h.n_min)
                split_min(q, sc, &hi, &lo);
            else
                split_signed(q, sc, &hi, &lo);
            vi_store(to, hi);
            vi_store(to + TILE_BYTES, lo);
        }
    }
}

SIMD_FN void slot256(const step *now, const step *before, const all *c, int i, int n_group,
                     scheme h) {
    enum { SLOTS = 2 * RUNS, EACH = TILE_TOKENS / SLOTS };
    if (now->y && n_group == GROUPS) own_lines(now, i * EACH, EACH);
    if (!before) return;
    ask_for_next(before->a, i, SLOTS);
    finish256(before, c, i * EACH, EACH, n_group, h);
}

/* The high and the low plane of each group of `now`. */
SIMD_FN void step256(const tiles *w, const step *now, const step *before, const all *c, int n_group,
                     scheme h) {
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
#pragma GCC unroll 4
    for (int i = 0; i < RUNS; i++) {
        const uint8_t *b = w->b + i * n_group * 2 * TILE_BYTES;
        tile_load_at(4, now->tile->q, i * TILE_ROW_BYTES, sizeof(act8));
        tile_load(6, b, TILE_ROW_BYTES);
        tile_load_at(7, b, TILE_BYTES, TILE_ROW_BYTES);
        dot256(0, 4, 6, h, su);
        dot256(1, 4, 7, h, su);
        slot256(now, before, c, 2 * i, n_group, h);
        if (n_group == GROUPS) {
            tile_load_at(6, b, 2 * TILE_BYTES, TILE_ROW_BYTES);
            tile_load_at(7, b, 3 * TILE_BYTES, TILE_ROW_BYTES);
            dot256(2, 4, 6, h, su);
            dot256(3, 4, 7, h, su);
        }
        slot256(now, before, c, 2 * i + 1, n_group, h);
    }
    tile_store(0, now->s, TILE_ROW_BYTES);
    tile_store_at(1, now->s, n_group * SUM_BYTES, TILE_ROW_BYTES);
    if (n_group == 1) return;
    tile_store_at(2, now->s, SUM_BYTES, TILE_ROW_BYTES);
    tile_store_at(3, now->s, 3 * SUM_BYTES, TILE_ROW_BYTES);
}

/* ---- one scheme, any number of tokens ---- */

/* The tokens of a product, 16 at a time.  Those of a part tile are copied, zeros behind them: what
 * lies there is not theirs to read. */
typedef struct walk {
    act8 edge[TILE_TOKENS];
    const act8 *next;
    int done, left; /* tokens */
} walk;

/* The sums of a step are whole: where they go to, a line or two per token.  They are in L1 still,
 * and the stores wait beside the products of the next tokens. */
SIMD_FN void deliver(const step *s, int n_group) {
    if (!s->y) return;
    for (int t = 0; t < s->n; t++)
#pragma GCC unroll 2
        for (int g = 0; g < n_group; g++)
            vf_store(s->y + (size_t)t * s->y_stride + g * LINEAR_ROWS,
                     vf_load(s->acc[g] + t * LINEAR_ROWS));
}

/* The next weights are asked for in even shares. */
SIMD_FN void walk_from(walk *o, const task *t, int n_group) {
    int n = (t->g->in->n_tok + TILE_TOKENS - 1) / TILE_TOKENS;
    for (int k = 0; k < n_group; k++)
        t->p[k].n_ahead = (t->p[k].n_line + n - 1) / n;
    o->next = (const act8 *)(t->g->in->act + (size_t)t->g->kb * t->g->in->kb_stride);
    o->done = 0;
    o->left = t->g->in->n_tok;
}

static const act8 *copy_edge(walk *o, int n) {
    for (int i = 0; i < TILE_TOKENS; i++)
        if (i < n)
            memcpy(o->edge[i].q, o->next[i].q, sizeof o->edge[i].q);
        else
            memset(o->edge[i].q, 0, sizeof o->edge[i].q);
    return o->edge;
}

/* 0: there are none. */
SIMD_FN int walk_on(walk *o, const task *t, int n_group, step *out) {
    int n = o->left < TILE_TOKENS ? o->left : TILE_TOKENS;
    if (n <= 0) return 0;
    *out = (step){.a = o->next, .tile = o->next, .y_stride = t->g->in->y_stride, .n = n};
    for (int k = 0; k < n_group; k++)
        out->acc[k] = t->g[k].acc + o->done * LINEAR_ROWS;
    if (n < TILE_TOKENS) out->tile = copy_edge(o, n);
    if (t->y) out->y = t->y + (size_t)o->done * out->y_stride;
    o->next += TILE_TOKENS;
    o->done += TILE_TOKENS;
    o->left -= TILE_TOKENS;
    for (int k = 0; k < n_group; k++)
        ask_ahead(&t->p[k]);
    return 1;
}

/* The step before this one, if any, is done with. */
SIMD_FN void end32(const task *o, const step *s, int n_group, scheme h) {
    if (!s->n) return;
    few c = few_of(o->p, n_group, s->first, h);
    store_last(s, n_group);
    finish_all32(s, &c, n_group, h);
    if (s->is_last) deliver(s, n_group);
}

/* Steps go through the tiles while the one before is finished, unless that is less than a whole
 * one. */
SIMD_FN void product32(const task *o, int n_group, scheme h) {
    walk at;
    step before = {.n = 0}, now, chunk[CHUNK];
    int which = 0, n = at_once(h), n_tile;
    for (int g = 0; g < n_group; g++)
        blocks_to_tiles(&o->p[g], offset_of(o->g->in->type), o->n_block, g, n_group, h, o->w);
    walk_from(&at, o, n_group);
    while (at.left > 0) {
        for (n_tile = 0; n_tile < CHUNK && walk_on(&at, o, n_group, &chunk[n_tile]);)
            n_tile++;
        for (int first = 0; first < o->n_block; first += n) {
            columns32(o->w, first, n_group, h);
            for (int i = 0; i < n_tile; i++, which ^= 1) {
                now = chunk[i];
                now.first = first;
                now.is_last = first + n >= o->n_block;
                now.n_block = o->n_block - first < n ? o->n_block - first : n;
                now.s = o->s[which].v;
                now.is_sum = o->is_start && !first ? 0 : 0xffff;
                if (before.n == TILE_TOKENS && before.n_block == n) {
                    few c = few_of(o->p, n_group, before.first, h);
                    step32(&now, &before, &c, n_group, h);
                    if (before.is_last) deliver(&before, n_group);
                } else {
                    end32(o, &before, n_group, h);
                    step32(&now, NULL, NULL, n_group, h);
                }
                before = now;
            }
        }
    }
    end32(o, &before, n_group, h);
}

SIMD_FN void product256(const task *o, int n_group, scheme h) {
    walk at;
    step before = {.n = 0}, now;
    int which = 0;
    for (int g = 0; g < n_group; g++)
        planes_to_tiles(&o->p[g], offset_of(o->g->in->type), g, n_group, h, o->w);
    walk_from(&at, o, n_group);
    all c = all_of(o->p, n_group, h);
    for (; walk_on(&at, o, n_group, &now); which ^= 1) {
        now.s = o->s[which].v;
        now.is_sum = o->is_start ? 0 : 0xffff;
        if (before.n)
            step256(o->w, &now, &before, &c, n_group, h);
        else
            step256(o->w, &now, NULL, &c, n_group, h);
        deliver(&before, n_group);
        before = now;
    }
    for (int i = 0; i < before.n; i++)
        finish256(&before, &c, i, 1, n_group, h);
    deliver(&before, n_group);
}

/* ---- blocks of columns ---- */

typedef void (*scheme_fn)(const task *o, int n_group);

#define SCHEME(NAME, SPAN, ...)                                                                    \
    static void NAME(const task *o, int n_group) {                                                 \
        const scheme h = {__VA_ARGS__};                                                            \
        if (n_group == GROUPS)                                                                     \
            product##SPAN(o, GROUPS, h);                                                           \
        else                                                                                       \
            product##SPAN(o, 1, h);                                                                \
    }
SCHEME(tame32, 32, .sub = 32, .is_tame = 1)
SCHEME(wild32, 32, .sub = 32)
SCHEME(min32, 32, .sub = 32, .n_min = 1)
SCHEME(two16, 32, .sub = 16, .has_two = 1)
SCHEME(plain256, 256, .sub = 16)
SCHEME(min16, 256, .sub = 16, .n_min = 8)
SCHEME(sub32, 256, .sub = 32, .n_min = 4)

/* What MAGIC adds to a product goes where other types have minima. */
static void plain32(const task *o, int n_group) {
    __mmask16 is_tame = 0xffff;
    for (int g = 0; g < n_group; g++)
        for (int b = 0; b < o->n_block; b++) {
            vf d = vf_load(o->p[g].d + b * W);
            vf_store(o->p[g].m + b * W, vf_mul(d, vf_set1(-MAGIC)));
            is_tame &= tame_lanes(d);
        }
    if (is_tame == 0xffff)
        tame32(o, n_group);
    else
        wild32(o, n_group);
}

static scheme_fn scheme_of(const linear_type *t) {
    if (t->span == 32) return t->has_two ? two16 : t->min_sub ? min32 : plain32;
    return t->min_sub == 16 ? min16 : t->min_sub == 32 ? sub32 : plain256;
}

/* The same block of columns of n_group groups. */
static void blocks(const group *g, int n_group, int is_start, float *y) {
    panel p[GROUPS];
    tiles w;
    sums s[2];
    task o = {g, p, &w, s, g->n_block * g->in->type->block / 32, is_start, y};
    for (int k = 0; k < n_group; k++)
        linear_panel(&g[k], &p[k], 0);
    scheme_of(g->in->type)(&o, n_group);
}

static void block(const group *g) {
    blocks(g, 1, 0, NULL);
}

static void rows_int(const linear_in *in, int64_t row0, int32_t rows, float *acc) {
    if (in->n_tok <= LINEAR_VECTORS)
        cpu_isa_avx512vnni.rows_int(in, row0, rows, acc);
    else
        each_block(in, linear_kernel(in->type), row0, rows, acc, block);
}

static int pair_int(const linear_in *in, int64_t row0, float *acc) {
    group g[GROUPS];
    int block_columns = in->type->block;
    size_t bytes = (size_t)(LINEAR_K / block_columns * in->type->block_bytes);
    size_t rows = LINEAR_ROWS * in->row_bytes, one = (size_t)in->n_tok * LINEAR_ROWS;
    const uint8_t *first = in->w + (size_t)row0 * in->row_bytes;
    if (in->n_tok <= LINEAR_VECTORS) return cpu_isa_avx512vnni.pair_int(in, row0, acc);
    for (int64_t kb = 0; kb * LINEAR_K < in->n; kb++) {
        int64_t left = in->n - kb * LINEAR_K;
        for (size_t k = 0; k < GROUPS; k++) {
            const uint8_t *of = first + k * rows;
            g[k] = (group){.in = in,
                           .k = linear_kernel(in->type),
                           .w = of + (size_t)kb * bytes,
                           .stride = in->row_bytes,
                           .kb = kb,
                           .n_block = (int)(left < LINEAR_K ? left : LINEAR_K) / block_columns,
                           .prefetch = of + 2 * rows + (size_t)kb * LINEAR_ROWS * bytes,
                           .prefetch_step = 64 * NL,
                           .acc = acc + k * one};
        }
        blocks(g, GROUPS, kb == 0, left <= LINEAR_K && in->y ? in->y + row0 : NULL);
    }
    return in->y ? LINEAR_STORED : 1;
}

/* ---- the level ---- */

/* All tiles whole, or as a product of 32 columns wants them. */
static void enter(const linear_type *t) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < TILES; i++) {
        c.rows[i] = TILE_TOKENS;
        c.row_bytes[i] = TILE_ROW_BYTES;
    }
    if (t && t->span == 32) {
        c.row_bytes[2] = c.row_bytes[3] = FLAT_BYTES;
        c.rows[4] = c.rows[5] = c.rows[6] = c.rows[7] = FLAT_ROWS;
    }
    tile_configure(&c);
}

static void leave(void) {
    tile_release();
}

const cpu_isa cpu_isa_avx512amx = {
    .name = "avx512amx",
    .has_dot = 1,
    .quantize = quantize_row_avx512vnni,
    .rows_int = rows_int,
    .pair_int = pair_int,
    .tiled = &tiled_avx512amx,
    .rows_f32 = rows_f32_avx512,
    .bf16 = &bf16_avx512,
    .enter = enter,
    .leave = leave,
    .vec = &vec_avx512,
    .attn = &attn_avx512,
};
