/* SPDX-License-Identifier: MIT
 *
 * heads_test.cc - kernel heads against NORM, ROPE and KV_APPEND one after the other, bit by bit.
 *
 * A case is a cache type, a shape, the pairs that are turned and the norm; it runs with one head to
 * a warp and with several.  The kernels by themselves are compared with the reference by
 * plugin-check. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <string>
#include <vector>

#include "args.h"
#include "cuda_shim.h"

enum { RMS, LAYER, L2, NO_NORM };

struct heads_case {
    const char *name;
    int type, n_head, n_kv_head, d, dv, n_tok;
    int n_rot, first, is_neox;
    bool has_factor, has_ramp;
    int norm;           /* kind */
    bool has_vectors;   /* of the norm, one for each head */
    bool is_one_buffer; /* rows q, k, v of a token follow one another */
};
static const heads_case cases[] = {
    {"f16", 1, 8, 2, 128, 128, 1, 128, 0, 0, false, false, NO_NORM, false, false},
    {"f16, tokens", 1, 8, 2, 128, 128, 5, 128, 0, 1, false, false, RMS, false, false},
    {"f16, heads of 256", 1, 4, 2, 256, 256, 3, 256, 0, 1, false, false, RMS, false, true},
    {"f16, heads of 200", 1, 3, 1, 200, 132, 3, 100, 60, 0, true, false, LAYER, true, true},
    {"f16, heads of 64", 1, 4, 4, 64, 64, 4, 64, 0, 1, true, false, NO_NORM, false, true},
    {"f16, heads of 20", 1, 5, 1, 20, 12, 4, 8, 4, 1, false, true, RMS, true, false},
    {"f32, some turned", 0, 4, 1, 96, 64, 3, 32, 16, 0, false, true, NO_NORM, false, true},
    {"f32, L2", 0, 4, 1, 128, 128, 3, 128, 0, 1, false, false, L2, true, false},
    {"bf16", 30, 6, 2, 80, 80, 3, 80, 0, 1, false, false, LAYER, false, false},
    {"q8_0", 8, 4, 2, 128, 128, 3, 128, 0, 1, false, false, RMS, false, false},
    {"q8_0, heads of 160", 8, 4, 2, 160, 96, 3, 64, 32, 0, false, false, RMS, false, true},
    {"q4_0", 2, 4, 2, 128, 64, 3, 128, 0, 1, false, false, NO_NORM, false, false},
};

static int n_check, n_failed;
static uint64_t state = 1;

static float number() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(state >> 40) / (1 << 23) - 1);
}

/* 16 bytes wide, as buffers of a device are. */
struct row_memory {
    std::vector<float> room;
    explicit row_memory(size_t n) : room(n + 4) {
    }
    float *at() {
        return (float *)(((uintptr_t)room.data() + 15) / 16 * 16);
    }
};

static uint64_t address(const void *p) {
    return (uint64_t)(uintptr_t)p;
}

static void launch(const std::string &name, const void *args, int n_block) {
    const shim_kernel *k = shim_find(name.c_str());
    if (!k) {
        fprintf(stderr, "heads_test: no kernel %s\n", name.c_str());
        exit(1);
    }
    shim_launch(k, args, (unsigned)n_block);
}

enum { N_SLOT = 16, POISON = 0xa5 };

/* What the ops work on: rows of q, k and v, and both pools. */
struct world {
    const heads_case *c;
    row_memory x;
    size_t n_x;
    cu_rows rows[3]; /* of q, k, v */
    std::vector<unsigned char> pool[2];

    explicit world(const heads_case *of) : c(of), x(0) {
        int n[3] = {c->n_head * c->d, c->n_kv_head * c->d, c->n_kv_head * c->dv};
        int all = n[0] + n[1] + n[2], at = 0;
        n_x = (size_t)(all * c->n_tok);
        x = row_memory(n_x);
        for (int k = 0; k < 3; k++) {
            rows[k].at = address(x.at() + at);
            rows[k].stride[0] = 0;
            rows[k].stride[1] = 4 * (c->is_one_buffer ? all : n[k]);
            rows[k].stride[2] = 4 * (k == 2 ? c->dv : c->d);
            at += c->is_one_buffer ? n[k] : n[k] * c->n_tok;
        }
        for (auto &p : pool)
            p.assign((size_t)(N_SLOT * c->n_kv_head * 1024), POISON);
    }
};

/* What all ops are told. */
struct told {
    row_memory w, b, factor;
    std::vector<int32_t> pos, slot;
    told() : w(1 << 12), b(1 << 12), factor(1 << 8) {
    }
};

static cu_rope rope_of(const world &m, const told &s, told *f, int k) {
    const heads_case *c = m.c;
    cu_rope a = {};
    a.factor = c->has_factor ? address(f->factor.at()) : 0;
    a.pos = address(s.pos.data());
    a.x = a.y = m.rows[k];
    a.n_head = k ? c->n_kv_head : c->n_head;
    a.n = c->d;
    a.first = c->first;
    a.n_rot = c->n_rot;
    a.is_neox = c->is_neox;
    a.n_item = c->n_rot / 2;
    a.n_chunk = (a.n_item + CU_THREADS - 1) / CU_THREADS;
    a.ratio = powf(10000, -2.0f / (float)c->n_rot);
    a.magnitude = c->has_ramp ? 1.1f : 1.0f;
    a.ext = c->has_ramp ? 1.0f : 0.0f;
    a.ramp_lo = 1;
    a.ramp_hi = 3;
    a.freq_scale = c->has_ramp ? 0.25f : 1.0f;
    return a;
}

static cu_append append_of(world &m, const told &s) {
    cu_append a = {};
    a.slot = address(s.slot.data());
    a.k_pool = address(m.pool[0].data());
    a.v_pool = address(m.pool[1].data());
    a.k = m.rows[1];
    a.v = m.rows[2];
    a.n_head = m.c->n_kv_head;
    a.dk = m.c->d;
    a.dv = m.c->dv;
    return a;
}

static void run_singly(world &m, told *s) {
    const heads_case *c = m.c;
    for (int k = 0; k < 2; k++) {
        cu_rope rope = rope_of(m, *s, s, k);
        cu_norm norm = {};
        norm.w = address(s->w.at());
        norm.bias = address(s->b.at());
        norm.x = norm.y = m.rows[k];
        norm.d1 = c->n_tok;
        norm.d2 = rope.n_head;
        norm.n = c->d;
        norm.n_vector = c->has_vectors ? rope.n_head : 1;
        norm.kind = c->norm;
        norm.n_row = c->n_tok * rope.n_head;
        norm.eps = 1e-5f;
        if (c->norm != NO_NORM) launch("peri_norm", &norm, norm.n_row);
        launch("peri_rope", &rope, c->n_tok * rope.n_head * rope.n_chunk);
    }
    cu_append append = append_of(m, *s);
    launch("peri_kv_append_" + std::to_string(c->type), &append, c->n_tok * c->n_kv_head);
}

static void run_together(world &m, told *s, int n_warp) {
    const heads_case *c = m.c;
    cu_append append = append_of(m, *s);
    cu_heads a = {};
    for (int k = 0; k < 3; k++) {
        cu_heads_part *p = &a.part[k];
        p->at = m.rows[k].at;
        p->stride[0] = m.rows[k].stride[1];
        p->stride[1] = m.rows[k].stride[2];
        p->n_head = k ? c->n_kv_head : c->n_head;
        if (k == 2 || c->norm == NO_NORM) continue;
        p->w = address(s->w.at());
        p->bias = address(s->b.at());
        p->n_vector = c->has_vectors ? p->n_head : 1;
        p->kind = c->norm;
        p->eps = 1e-5f;
    }
    a.rope = rope_of(m, *s, s, 0);
    a.slot = append.slot;
    a.k_pool = append.k_pool;
    a.v_pool = append.v_pool;
    a.n_tok = c->n_tok;
    a.d = c->d;
    a.dv = c->dv;
    a.n_warp = n_warp;
    launch("peri_heads_" + std::to_string(c->type), &a,
           (c->n_tok * n_warp + CU_ROWS - 1) / CU_ROWS);
}

static void check(bool is_good, const heads_case &c, int n_warp, const char *what) {
    n_check++;
    if (is_good) return;
    n_failed++;
    fprintf(stderr, "heads_test: %s, %d warps to a token: %s\n", c.name, n_warp, what);
}

static void try_case(const heads_case &c, int n_warp) {
    world single(&c), together(&c);
    told s;
    for (int i = 0; i < 1 << 12; i++) {
        s.w.at()[i] = number();
        s.b.at()[i] = number();
    }
    for (int i = 0; i < 1 << 8; i++)
        s.factor.at()[i] = 1 + fabsf(number());
    for (int t = 0; t < c.n_tok; t++) {
        s.pos.push_back(3 + 1000 * t);
        s.slot.push_back(t == 1 ? -1 : N_SLOT - 1 - 2 * t);
    }
    std::vector<float> before;
    for (size_t i = 0; i < single.n_x; i++) {
        before.push_back(number());
        single.x.at()[i] = together.x.at()[i] = before[i];
    }
    run_singly(single, &s);
    run_together(together, &s, n_warp);
    size_t bytes = single.n_x * sizeof(float);
    check(memcmp(single.x.at(), together.x.at(), bytes) == 0, c, n_warp, "other q, k or v");
    check(memcmp(single.x.at(), before.data(), bytes) != 0, c, n_warp, "nothing was turned");
    for (int k = 0; k < 2; k++) {
        size_t n_kept = 0;
        for (unsigned char byte : single.pool[k])
            n_kept += byte != POISON;
        check(n_kept > 0, c, n_warp, "nothing was stored");
        check(single.pool[k] == together.pool[k], c, n_warp, k ? "other values" : "other keys");
    }
}

int main() {
    for (const heads_case &c : cases) {
        int n_unit = c.n_head + 2 * c.n_kv_head;
        for (int n_warp : {n_unit, (n_unit + 2) / 3, 1})
            try_case(c, n_warp);
    }
    printf("%d checks, %d failed\n", n_check, n_failed);
    return n_failed > 0;
}
