/* SPDX-License-Identifier: MIT
 *
 * attn_test.cc - the kernels of ATTN against plain loops in f64, and against each other bit by bit:
 * one block for all parts of a token, a block for each in rising and in falling order, many tokens
 * together; one head and tiles of heads.  The same for the outputs as bytes, where products can
 * take them so.
 *
 * A case is a cache type, a shape and the rules of what is seen.  Its batch has tokens of four
 * sequences, of contexts below a run, a part and beyond two, whose blocks lie in the pool in no
 * order; the rest of the pool is NaN. */
#include <stdio.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "args.h"
#include "cuda_shim.h"

struct attn_case {
    const char *name;
    int type, n_head, n_kv_head, dk, dv, block_tokens;
    int window, chunk, is_not_causal;
    float cap, alibi_max;
    bool has_sink;
};
static const attn_case cases[] = {
    {"f16", 1, 8, 2, 128, 128, 16, 0, 0, 0, 0, 0, false},
    {"f16, window, sinks", 1, 6, 2, 64, 64, 32, 70, 0, 0, 0, 0, true},
    {"f16, heads of 80, alibi", 1, 5, 1, 80, 80, 16, 0, 0, 0, 0, 8, false},
    {"f16, heads of 256, soft cap", 1, 4, 2, 256, 256, 16, 0, 0, 0, 20, 0, false},
    {"f16, heads of 5, blocks of 24", 1, 4, 2, 5, 3, 24, 0, 0, 0, 0, 0, false},
    {"f16, chunks", 1, 4, 1, 32, 32, 16, 0, 100, 0, 0, 0, false},
    {"f16, not causal", 1, 4, 1, 32, 64, 16, 0, 0, 1, 0, 0, false},
    {"f32", 0, 8, 2, 128, 96, 16, 0, 0, 0, 0, 0, false},
    {"f32, a head each", 0, 3, 3, 20, 36, 64, 300, 0, 0, 0, 0, true},
    {"bf16", 30, 4, 1, 128, 128, 16, 0, 0, 0, 0, 0, false},
    {"q8_0", 8, 8, 2, 128, 128, 16, 0, 0, 0, 0, 0, false},
    {"q8_0, a head each, window", 8, 2, 2, 96, 32, 16, 40, 0, 0, 0, 0, false},
    {"q4_0", 2, 8, 2, 128, 64, 16, 0, 0, 0, 0, 0, false},
};

/* Tokens: a sequence, its first position, how many. */
static const struct {
    int seq, pos, n;
} batch[] = {{0, 250, 21}, {1, 640, 1}, {2, 0, 6}, {3, 530, 2}, {0, 271, 12}, {3, 532, 3}};
enum { N_SEQ = 4, N_TOK = 45 };
static const int contexts[N_SEQ] = {283, 641, 6, 535};

/* ---- numbers ---- */

static uint32_t state;
static uint32_t next_random() {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}
static float random_float() {
    return ((float)(next_random() >> 8) / (float)(1 << 23) - 1) * 2;
}

static float widen_half(uint16_t h) {
    int e = h >> 10 & 31;
    float m = e ? (float)((h & 1023) | 1024) : (float)(h & 1023), s = h & 0x8000 ? -1.0f : 1.0f;
    return s * ldexpf(m, (e ? e : 1) - 25);
}

/* Element i of a head. */
static float element(int type, const uint8_t *head, int i) {
    uint16_t half;
    float f;
    switch (type) {
    case 0:
        memcpy(&f, head + 4 * i, 4);
        return f;
    case 1:
        memcpy(&half, head + 2 * i, 2);
        return widen_half(half);
    case 30:
        memcpy(&half, head + 2 * i, 2);
        return shim_bits<float>((uint32_t)half << 16);
    case 8:
        head += i / 32 * 34;
        memcpy(&half, head, 2);
        return widen_half(half) * (float)(int8_t)head[2 + i % 32];
    default:
        head += i / 32 * 18;
        memcpy(&half, head, 2);
        return widen_half(half) * (float)((head[2 + i % 16] >> i % 32 / 16 * 4 & 15) - 8);
    }
}
static int64_t bytes_of(int type, int n) {
    return type == 0 ? 4 * n : type == 8 ? n / 32 * 34 : type == 2 ? n / 32 * 18 : 2 * n;
}

/* ---- a case on its way ---- */

/* 16-byte aligned, like what a device gives. */
struct memory {
    std::vector<uint8_t> all;
    uint8_t *at;
    explicit memory(size_t n) : all(n + 16, 0xff) {
        at = all.data() + (16 - (uintptr_t)all.data() % 16) % 16;
    }
    uint64_t address() const {
        return (uint64_t)(uintptr_t)at;
    }
};

struct world {
    const attn_case *c;
    int max_blocks, n_block;
    memory k_pool, v_pool, q, y, part, top, codes;
    std::vector<int32_t> pos, seq, ctx, table, count;
    std::vector<float> sink;
    cu_attn a;
    explicit world(const attn_case *c);
};

static void launch(const std::string &name, const void *args, int64_t n_block,
                   bool is_reversed = false) {
    const shim_kernel *k = shim_find(name.c_str());
    if (!k) {
        fprintf(stderr, "attn_test: no kernel %s\n", name.c_str());
        exit(1);
    }
    shim_launch(k, args, (unsigned)n_block, is_reversed);
}

/* All keys of all sequences, by KV_APPEND. */
static void fill_pools(world *w) {
    const attn_case *c = w->c;
    std::vector<float> k, v;
    std::vector<int32_t> slot;
    for (int s = 0; s < N_SEQ; s++) {
        for (int i = 0; i < contexts[s]; i++)
            slot.push_back(w->table[(size_t)(s * w->max_blocks + i / c->block_tokens)] *
                               c->block_tokens +
                           i % c->block_tokens);
    }
    for (size_t i = 0; i < slot.size() * (size_t)(c->n_kv_head * c->dk); i++)
        k.push_back(random_float());
    for (size_t i = 0; i < slot.size() * (size_t)(c->n_kv_head * c->dv); i++)
        v.push_back(random_float());
    cu_append a = {(uint64_t)(uintptr_t)slot.data(),
                   w->k_pool.address(),
                   w->v_pool.address(),
                   {(uint64_t)(uintptr_t)k.data(), {0, 4 * c->n_kv_head * c->dk, 4 * c->dk}},
                   {(uint64_t)(uintptr_t)v.data(), {0, 4 * c->n_kv_head * c->dv, 4 * c->dv}},
                   c->n_kv_head,
                   c->dk,
                   c->dv};
    launch("peri_kv_append_" + std::to_string(c->type), &a, (int64_t)slot.size() * c->n_kv_head);
}

static int blocks_of(const attn_case *c) {
    return (641 + c->block_tokens - 1) / c->block_tokens + 1;
}
static size_t pool_bytes(const attn_case *c, int n) {
    return (size_t)(N_SEQ * blocks_of(c) * c->block_tokens * c->n_kv_head * bytes_of(c->type, n));
}
/* Elements of a token as bytes: whole spans. */
static int padded(const attn_case *c) {
    return (c->n_head * c->dv + CU_SPAN - 1) / CU_SPAN * CU_SPAN;
}
static size_t parts_bytes(const attn_case *c, int n) {
    return 4 * (size_t)(N_TOK * c->n_head * n * ((blocks_of(c) * c->block_tokens) / CU_PART + 1));
}

world::world(const attn_case *c_)
    : c(c_), max_blocks(blocks_of(c_)), n_block(N_SEQ * blocks_of(c_)),
      k_pool(pool_bytes(c_, c_->dk)), v_pool(pool_bytes(c_, c_->dv)),
      q(4 * (size_t)(N_TOK * c_->n_head * c_->dk)), y(4 * (size_t)(N_TOK * c_->n_head * c_->dv)),
      part(parts_bytes(c_, c_->dv)), top(parts_bytes(c_, 2)),
      codes((size_t)(N_TOK * (padded(c_) + padded(c_) / CU_GROUP * 12))),
      ctx(contexts, contexts + N_SEQ), count((size_t)(N_TOK * c_->n_head)) {
    for (int i = 0; i < n_block; i++)
        table.push_back(i * 5 % n_block);
    if (n_block % 5 == 0) {
        fprintf(stderr, "attn_test: 5 does not give each of %d blocks once\n", n_block);
        exit(1);
    }
    for (int i = 0; i < c->n_head && c->has_sink; i++)
        sink.push_back(random_float());
    for (auto &b : batch) {
        for (int i = 0; i < b.n; i++) {
            pos.push_back(b.pos + i);
            seq.push_back(b.seq);
        }
    }
    for (int i = 0; i < N_TOK * c->n_head * c->dk; i++)
        ((float *)(void *)q.at)[i] = random_float();
    fill_pools(this);
    a = cu_attn();
    a.k_pool = k_pool.address();
    a.v_pool = v_pool.address();
    a.sink = (uint64_t)(uintptr_t)sink.data();
    a.table = (uint64_t)(uintptr_t)table.data();
    a.ctx = (uint64_t)(uintptr_t)ctx.data();
    a.part = part.address();
    a.top = top.address();
    a.count = (uint64_t)(uintptr_t)count.data();
    a.n_head = c->n_head;
    a.n_kv_head = c->n_kv_head;
    a.dk = c->dk;
    a.dv = c->dv;
    a.max_blocks = max_blocks;
    a.block_tokens = c->block_tokens;
    a.by_block = cu_divisor_of(c->block_tokens);
    a.n_each = c->n_head / c->n_kv_head;
    a.n_seq = N_SEQ;
    a.n_part = (max_blocks * c->block_tokens + CU_PART - 1) / CU_PART;
    a.by_part = cu_divisor_of(a.n_part);
    a.window = c->window;
    a.chunk = c->chunk;
    a.is_not_causal = c->is_not_causal;
    a.scale = 1.0f / sqrtf((float)c->dk);
    a.cap = c->cap;
    a.alibi_max = c->alibi_max;
}

/* From token `first` on. */
static cu_attn arguments(const world *w, int first, int n_tok, int heads) {
    cu_attn a = w->a;
    int64_t q = 4 * w->c->n_head * w->c->dk, y = 4 * w->c->n_head * w->c->dv;
    a.pos = (uint64_t)(uintptr_t)(w->pos.data() + first);
    a.seq = (uint64_t)(uintptr_t)(w->seq.data() + first);
    a.q = {w->q.address() + (uint64_t)(first * q), {0, q, 4 * w->c->dk}};
    a.y = {w->y.address() + (uint64_t)(first * y), {0, y, 4 * w->c->dv}};
    a.n_tok = n_tok;
    a.n_tile = (a.n_head / a.n_kv_head + heads - 1) / heads;
    a.by_tile = cu_divisor_of(a.n_tile);
    a.by_group = cu_divisor_of(a.n_tile * a.n_kv_head);
    a.tile_tokens = CU_QUERIES / heads;
    a.least = INT32_MAX;
    return a;
}

/* ---- the answer ---- */

static bool is_visible(const attn_case *c, int key, int pos) {
    return (c->is_not_causal || key <= pos) && (!c->window || key > pos - c->window) &&
           (!c->chunk || key / c->chunk == pos / c->chunk);
}

static double slope(const attn_case *c, int h) {
    int n = 1;
    while (n * 2 <= c->n_head)
        n *= 2;
    if (c->alibi_max == 0) return 0;
    return exp2(-c->alibi_max * (h < n ? (h + 1.0) / n : (2 * (h - n) + 1.0) / (2 * n)));
}

static std::vector<double> reference(const world *w, int t, int h) {
    const attn_case *c = w->c;
    const float *q = (const float *)(const void *)w->q.at + (t * c->n_head + h) * c->dk;
    int s = w->seq[(size_t)t], pos = w->pos[(size_t)t], g = h / (c->n_head / c->n_kv_head);
    std::vector<double> out((size_t)c->dv), z;
    double top = c->has_sink ? w->sink[(size_t)h] : -INFINITY, all;
    for (int key = 0; key < contexts[s]; key++) {
        int row = w->table[(size_t)(s * w->max_blocks + key / c->block_tokens)] * c->block_tokens +
                  key % c->block_tokens;
        const uint8_t *k = w->k_pool.at + (row * c->n_kv_head + g) * bytes_of(c->type, c->dk);
        double sum = 0;
        for (int i = 0; i < c->dk; i++)
            sum += (double)q[i] * element(c->type, k, i);
        sum *= w->a.scale;
        if (c->cap > 0) sum = c->cap * tanh(sum / c->cap);
        z.push_back(is_visible(c, key, pos) ? sum + slope(c, h) * (key - pos) : -INFINITY);
        top = fmax(top, z.back());
    }
    all = c->has_sink ? exp(w->sink[(size_t)h] - top) : 0;
    for (int key = 0; key < contexts[s]; key++) {
        if (!is_visible(c, key, pos)) continue;
        int row = w->table[(size_t)(s * w->max_blocks + key / c->block_tokens)] * c->block_tokens +
                  key % c->block_tokens;
        const uint8_t *v = w->v_pool.at + (row * c->n_kv_head + g) * bytes_of(c->type, c->dv);
        double e = exp(z[(size_t)key] - top);
        all += e;
        for (int i = 0; i < c->dv; i++)
            out[(size_t)i] += e * element(c->type, v, i);
    }
    for (double &v : out)
        v = all > 0 ? v / all : 0;
    return out;
}

/* ---- ways ---- */

static int n_failed, n_check;

static std::vector<float> take(world *w) {
    const float *y = (const float *)(const void *)w->y.at;
    std::vector<float> out(y, y + N_TOK * w->c->n_head * w->c->dv);
    memset(w->y.at, 0xff, out.size() * 4);
    return out;
}

static void expect_same(const world *w, const char *way, const std::vector<float> &found,
                        const std::vector<float> &expected) {
    n_check++;
    for (size_t i = 0; i < found.size(); i++) {
        if (memcmp(&found[i], &expected[i], 4) == 0) continue;
        int n = w->c->n_head * w->c->dv;
        printf("FAILED: %s, %s: token %d, number %d: found %a, expected %a\n", w->c->name, way,
               (int)i / n, (int)i % n, (double)found[i], (double)expected[i]);
        n_failed++;
        return;
    }
    for (int32_t n : w->count) {
        if (n == 0) continue;
        printf("FAILED: %s, %s: a count of %d is left, expected 0\n", w->c->name, way, n);
        n_failed++;
        return;
    }
}

/* y as bytes: rows of whole spans, a group's words in the order 0 4 1 5 2 6 3 7; then of each group
 * its scale and sum; then the sums of its halves. */
static std::vector<uint8_t> codes_of(const attn_case *c, const std::vector<float> &y) {
    int n = c->n_head * c->dv, n_group = padded(c) / CU_GROUP;
    std::vector<uint8_t> bytes, sums, halves;
    for (int g = 0; g < N_TOK * n_group; g++) {
        const float *v = &y[(size_t)(g / n_group * n + g % n_group * CU_GROUP)];
        bool is_there = g % n_group * CU_GROUP < n;
        float top = 0;
        int half[2] = {};
        for (int i = 0; i < CU_GROUP && is_there; i++)
            top = fmaxf(top, fabsf(v[i]));
        for (int i = 0; i < CU_GROUP; i++) { /* byte i is of word i / 8 or, odd words, 4 more */
            int k = (i / 8 + i / 4 % 2 * 4) * 4 + i % 4;
            int code = top > 0 ? (int)rintf(v[k] * (1.0f / (top / 127.0f))) : 0;
            half[k / 16] += code;
            bytes.push_back((uint8_t)code);
        }
        float meta[2] = {top / 127.0f, (float)(half[0] + half[1])};
        uint32_t both = ((uint32_t)half[0] & 0xffffu) | (uint32_t)half[1] << 16;
        sums.insert(sums.end(), (const uint8_t *)meta, (const uint8_t *)(meta + 2));
        halves.insert(halves.end(), (const uint8_t *)&both, (const uint8_t *)(&both + 1));
    }
    bytes.insert(bytes.end(), sums.begin(), sums.end());
    bytes.insert(bytes.end(), halves.begin(), halves.end());
    return bytes;
}

/* They are then forgotten. */
static void expect_codes(const world *w, const char *way, const std::vector<float> &y) {
    if (w->c->dv % CU_GROUP) return;
    std::vector<uint8_t> expected = codes_of(w->c, y);
    n_check++;
    for (size_t i = 0; i < expected.size(); i++) {
        if (w->codes.at[i] == expected[i]) continue;
        printf("FAILED: %s, %s, as bytes: byte %d of %d: found %d, expected %d\n", w->c->name, way,
               (int)i, (int)expected.size(), w->codes.at[i], expected[i]);
        n_failed++;
        break;
    }
    memset(w->codes.at, 0xff, expected.size());
}

/* f32 throughout, some hundred terms: 2e-5 of the largest is some ten times what is seen. */
static void expect_near(const world *w, const std::vector<float> &found) {
    size_t at = 0;
    for (int t = 0; t < N_TOK; t++) {
        for (int h = 0; h < w->c->n_head; h++) {
            std::vector<double> expected = reference(w, t, h);
            n_check++;
            for (size_t i = 0; i < expected.size(); i++, at++) {
                if (fabs(found[at] - expected[i]) <= 2e-5) continue;
                printf("FAILED: %s: token %d, head %d, element %d: found %.9g, expected %.9g\n",
                       w->c->name, t, h, (int)i, (double)found[at], expected[i]);
                n_failed++;
                return;
            }
        }
    }
}

static void run(world *w, const char *kernel, int heads, int per_token, bool is_reversed = false) {
    cu_attn a = arguments(w, 0, N_TOK, heads);
    if (a.dv % CU_GROUP == 0) a.codes = w->codes.address();
    launch("peri_" + std::string(kernel) + "_" + std::to_string(w->c->type), &a,
           (int64_t)N_TOK * per_token * a.n_kv_head * a.n_tile, is_reversed);
}

/* Many tokens together; what attn_many leaves is attn's. */
static void run_many(world *w, int first, int n_tok, int heads, int least) {
    cu_attn a = arguments(w, first, n_tok, heads);
    std::string type = std::to_string(w->c->type), tile = heads == 1 ? "" : "_tile";
    int n = a.n_kv_head * a.n_tile;
    a.least = least;
    launch("peri_attn" + tile + "_many_" + type, &a,
           (int64_t)((n_tok + a.tile_tokens - 1) / a.tile_tokens) * n);
    if (least > 1) launch("peri_attn" + tile + "_" + type, &a, (int64_t)n_tok * n);
}

static void try_case(const attn_case *c) {
    state = 2463534242u;
    world w(c);
    bool is_tiled = c->n_head > c->n_kv_head,
         is_short = c->dk <= CU_QUERY_HEAD && c->dv <= CU_QUERY_HEAD;
    take(&w);
    run(&w, "attn", 1, 1);
    std::vector<float> expected = take(&w);
    expect_near(&w, expected);
    expect_codes(&w, "one block", expected);
    run(&w, "attn_part", 1, w.a.n_part);
    expect_same(&w, "a block a part", take(&w), expected);
    expect_codes(&w, "a block a part", expected);
    run(&w, "attn_part", 1, w.a.n_part, true);
    expect_same(&w, "a block a part, from the last on", take(&w), expected);
    expect_codes(&w, "a block a part, from the last on", expected);
    if (is_tiled) {
        run(&w, "attn_tile", CU_TILE, 1);
        expect_same(&w, "tiles", take(&w), expected);
        expect_codes(&w, "tiles", expected);
        run(&w, "attn_tile_part", CU_TILE, w.a.n_part, true);
        expect_same(&w, "tiles, a block a part, from the last on", take(&w), expected);
        expect_codes(&w, "tiles, a block a part, from the last on", expected);
    }
    for (int heads = 1; is_short && heads <= (is_tiled ? CU_TILE : 1); heads += CU_TILE - 1) {
        for (int least = 1; least <= 3; least += 2) {
            run_many(&w, 0, N_TOK, heads, least);
            expect_same(&w, heads > 1 ? "many, tiles" : "many", take(&w), expected);
        }
        run_many(&w, 0, 13, heads, 1); /* other tiles */
        run_many(&w, 13, N_TOK - 13, heads, 1);
        expect_same(&w, heads > 1 ? "many, tiles, in two" : "many, in two", take(&w), expected);
    }
}

int main() {
    for (const attn_case &c : cases)
        try_case(&c);
    printf("%d checks, %d failed\n", n_check, n_failed);
    return n_failed > 0;
}
