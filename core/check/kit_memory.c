/* SPDX-License-Identifier: MIT
 *
 * kit_memory.c - a case in memory that notices: laying it out, asking, running, looking around.
 *
 * Weights, vectors and pools end where a page ends that may not be touched; weights and vectors are
 * read-only; all of them begin at a multiple of KIT_ALIGN bytes (pools: 64) and no better.
 * Activations lie in one arena at odd multiples of 4 bytes, with NaN in every gap, behind every row
 * of the step and in the outputs.  After a run nothing but the outputs may have changed.
 *
 * A device with memory of its own gets copies of all this, weights in place where it can, and what
 * it may have changed is read back; reads past an end are then seen in weights only. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/status.h"
#include "check/kit.h"
#include "model/dtype.h"

#include "base/compiler.h"

/* An area that ends at a forbidden page. */
typedef struct area {
    unsigned char *map, *at; /* what was mapped; the data */
    size_t n_map, n;
} area;

typedef struct kit_memory {
    area arena, weight[KIT_OPERANDS], pool[KIT_OPERANDS];
    unsigned char *before; /* arena before the run */
    kit_buffer arena_buf, weight_buf[KIT_OPERANDS],
        pool_buf[KIT_OPERANDS]; /* the same, for the device */
    peri_buf *weight_at[KIT_OPERANDS], *pool_at[KIT_OPERANDS];
    uint32_t n_weight, n_pool;
} kit_memory;

typedef struct packed {
    peri_program head;
    peri_tensor tensor[KIT_OPERANDS];
    peri_op op;
    uint32_t operand[KIT_OPERANDS];
    unsigned char attr[64];
} packed;

typedef struct step_block {
    peri_step head;
    kit_step data;
} step_block;

/* ---- areas
 * ---------------------------------------------------------------------------------------- */

static bool area_init(area *a, size_t n, size_t align) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (n + align - 1) / align * align;
    size_t inside = (room + page - 1) / page * page;
    void *p = mmap(NULL, inside + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    a->map = p;
    a->n_map = inside + page;
    a->n = n;
    a->at = a->map + inside - room;
    memset(a->map, 0xff, inside);
    return mprotect(a->map + inside, page, PROT_NONE) == 0;
}

static void area_fini(area *a) {
    if (a->map) munmap(a->map, a->n_map);
}

static int64_t extent(const kit_case *c, const kit_operand *x, int i) {
    return x->dim[i] < 0 ? c->step.n[-x->dim[i]] : x->dim[i];
}

static bool is_activation(const kit_operand *x) {
    return x->kind == 'a' || x->kind == 'i' || x->kind == 'o' || x->kind == 'n';
}

static bool is_output(const kit_operand *x) {
    return x->kind == 'o' || x->kind == 'n';
}

/* Strides and offsets in the arena, room for padding rows included; bytes of the arena. */
static size_t place(kit_case *c, uint64_t layout) {
    size_t end = 64;
    for (uint32_t k = 0; k < c->n_in + c->n_out; k++) {
        kit_operand *x = &c->x[k];
        int64_t stride = x->kind == '-' ? 0 : (int64_t)peri_dtype_get(x->dtype)->block_bytes;
        if (x->kind != '-' && peri_dtype_get(x->dtype)->block_elements > 1) continue;
        for (int i = 3; i >= 0; i--) {
            int64_t n = extent(c, x, i) + (x->dim[i] < 0 ? c->slack : 0);
            x->stride[i] = stride;
            stride *= i == 3 ? n + x->gap : n;
        }
        if (!is_activation(x)) continue;
        x->off = end + 4 * kit_pick(layout + 5, k, 16);
        end = (x->off + (size_t)stride + 64 + 63) / 64 * 64;
    }
    if (c->shape->is_in_place) {
        c->x[c->n_in].off = c->x[0].off;
        c->x[c->n_in].gap = c->x[0].gap;
        memcpy(c->x[c->n_in].stride, c->x[0].stride, sizeof c->x[0].stride);
    }
    return end;
}

static size_t row_off(const kit_case *c, const kit_operand *x, int64_t r) {
    int64_t n1 = extent(c, x, 1), n2 = extent(c, x, 2);
    return x->off + (size_t)(r / n2 / n1 * x->stride[0] + r / n2 % n1 * x->stride[1] +
                             r % n2 * x->stride[2]);
}

/* Copy between the arena and dense bits. */
static void copy_rows(const kit_case *c, const kit_operand *x, unsigned char *arena,
                      unsigned char *bits, bool is_in) {
    size_t n = (size_t)extent(c, x, 3) * 4;
    int64_t n_row = extent(c, x, 0) * extent(c, x, 1) * extent(c, x, 2);
    for (int64_t r = 0; r < n_row; r++) {
        unsigned char *row = arena + row_off(c, x, r);
        memcpy(is_in ? row : bits + (size_t)r * n, is_in ? bits + (size_t)r * n : row, n);
    }
}

static void memory_fini(kit_plugin *p, kit_memory *m) {
    kit_buffer_fini(p, &m->arena_buf);
    area_fini(&m->arena);
    for (uint32_t k = 0; k < KIT_OPERANDS; k++) {
        kit_buffer_fini(p, &m->weight_buf[k]);
        kit_buffer_fini(p, &m->pool_buf[k]);
        area_fini(&m->weight[k]);
        area_fini(&m->pool[k]);
    }
    peri_free(m->before);
}

static bool add_area(const kit_operand *x, area *a, size_t align) {
    if (!area_init(a, x->n_bits, align)) return false;
    memcpy(a->at, x->bits, x->n_bits);
    return align != KIT_ALIGN ||
           mprotect(a->map, a->n_map - (size_t)sysconf(_SC_PAGESIZE), PROT_READ) == 0;
}

static bool memory_init(kit_memory *m, kit_case *c, uint64_t layout) {
    size_t bytes = place(c, layout);
    *m = (kit_memory){0};
    m->before = peri_alloc(bytes);
    bool is_good = m->before && area_init(&m->arena, bytes, 64);
    for (uint32_t k = 0; k < c->n_in + c->n_out && is_good; k++) {
        kit_operand *x = &c->x[k];
        if (x->kind == 'a' || x->kind == 'i') copy_rows(c, x, m->arena.at, x->bits, true);
        if (x->kind == 'w' || x->kind == 'v') {
            is_good = add_area(x, &m->weight[m->n_weight], KIT_ALIGN);
            m->n_weight++;
        }
        if (x->kind == 'p') {
            is_good = add_area(x, &m->pool[m->n_pool], 64);
            m->n_pool++;
        }
    }
    if (is_good) memcpy(m->before, m->arena.at, bytes);
    return is_good;
}

static bool give(kit_plugin *p, const area *a, uint32_t usage, kit_buffer *b, peri_error *e) {
    return kit_buffer_init(p, b, a->at, a->n, usage, e);
}

/* All of it to the device. */
static bool send(kit_plugin *p, kit_memory *m, peri_error *e) {
    bool is_good = give(p, &m->arena, PERI_BUF_ARENA, &m->arena_buf, e);
    for (uint32_t k = 0; k < m->n_weight && is_good; k++) {
        is_good = give(p, &m->weight[k], PERI_BUF_WEIGHT, &m->weight_buf[k], e);
        m->weight_at[k] = m->weight_buf[k].m.buf;
    }
    for (uint32_t k = 0; k < m->n_pool && is_good; k++) {
        is_good = give(p, &m->pool[k], PERI_BUF_POOL, &m->pool_buf[k], e);
        m->pool_at[k] = m->pool_buf[k].m.buf;
    }
    return is_good;
}

/* What may have changed, back. */
static bool fetch(kit_plugin *p, const kit_memory *m, peri_error *e) {
    bool is_good = kit_buffer_fetch(p, &m->arena_buf, e);
    for (uint32_t k = 0; k < m->n_pool && is_good; k++)
        is_good = kit_buffer_fetch(p, &m->pool_buf[k], e);
    return is_good;
}

/* ---- the program
 * ------------------------------------------------------------------------------------ */

static void pack(const kit_case *c, size_t arena_bytes, packed *p) {
    uint32_t n_weight = 0, n_pool = 0;
    memset(p, 0, sizeof *p);
    p->head = (peri_program){.size = sizeof p->head,
                             .bytes = sizeof *p,
                             .n_tensors = c->n_in + c->n_out,
                             .tensor_size = sizeof(peri_tensor),
                             .tensors = offsetof(packed, tensor),
                             .n_ops = 1,
                             .op_size = sizeof(peri_op),
                             .ops = offsetof(packed, op),
                             .operands = offsetof(packed, operand),
                             .attrs = offsetof(packed, attr),
                             .arena_bytes = arena_bytes};
    p->op = (peri_op){.code = c->shape->code,
                      .layer = 0xffff,
                      .n_in = (uint8_t)c->n_in,
                      .n_out = (uint8_t)c->n_out,
                      .attr_size = (uint16_t)c->shape->attr_size};
    if (c->shape->attr) memcpy(p->attr, c->shape->attr, c->shape->attr_size);
    for (uint32_t k = 0; k < c->n_in + c->n_out; k++) {
        const kit_operand *x = &c->x[k];
        bool is_weight = x->kind == 'w' || x->kind == 'v';
        p->operand[k] = x->kind == '-' ? PERI_NONE : k;
        p->tensor[k] = (peri_tensor){.dtype = x->dtype,
                                     .kind = is_weight        ? PERI_T_WEIGHT
                                             : x->kind == 'p' ? PERI_T_POOL
                                                              : PERI_T_ACT,
                                     .ref = is_weight        ? n_weight
                                            : x->kind == 'p' ? n_pool
                                                             : 0,
                                     .off = is_activation(x) ? x->off : 0};
        n_weight += is_weight;
        n_pool += x->kind == 'p';
        memcpy(p->tensor[k].dim, x->dim, sizeof x->dim);
        memcpy(p->tensor[k].stride, x->stride, sizeof x->stride);
    }
    if (c->shape->is_in_place) p->operand[c->n_in] = 0;
}

static void make_step(const kit_case *c, step_block *s) {
#define AT(field) offsetof(step_block, data) + offsetof(kit_step, field)
    s->head = (peri_step){.size = sizeof s->head,
                          .bytes = sizeof *s,
                          .number = 1,
                          .tok = AT(tok),
                          .pos = AT(pos),
                          .seq = AT(seq),
                          .slot = AT(slot),
                          .ctx = AT(ctx),
                          .table = AT(table),
                          .out_row = AT(out_row)};
#undef AT
    s->data = c->step;
    memcpy(s->head.n, c->step.n, sizeof s->head.n);
}

static int32_t ask(kit_plugin *p, const kit_case *c, const packed *program, int32_t hi,
                   peri_support *out, peri_error *e) {
    peri_bucket b = {.size = sizeof b};
    for (int i = 1; i < PERI_NSYM; i++) {
        b.lo[i] = 1;
        b.hi[i] = hi;
    }
    struct {
        peri_support answer;
        unsigned char guard[64];
    } room = {.answer = {.size = sizeof room.answer}};
    kit_place("supports", c);
    int32_t status = p->api.supports(p->dev, &program->head, 0, &b, &room.answer, e);
    *out = room.answer;
    for (size_t i = 0; i < sizeof room.guard; i++)
        if (room.guard[i]) {
            kit_find(c, "supports wrote past the room it was given");
            break;
        }
    return status;
}

int32_t kit_case_ask(kit_plugin *p, const kit_case *c, int32_t hi, peri_support *out,
                     peri_error *e) {
    packed program;
    kit_case placed = *c;
    pack(&placed, place(&placed, 0), &program);
    return ask(p, c, &program, hi, out, e);
}

/* ---- running
 * ---------------------------------------------------------------------------------------- */

static void broken(kit_result *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void broken(kit_result *r, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof r->text, fmt, ap);
    va_end(ap);
    r->outcome = KIT_BROKEN;
}

static bool take_outputs(const kit_case *c, kit_memory *m, kit_result *r) {
    uint32_t pool = 0;
    for (uint32_t k = 0; k < c->n_in + c->n_out; k++) {
        const kit_operand *x = &c->x[k];
        if (!is_output(x) && x->kind != 'p') continue;
        int64_t n_row = extent(c, x, 0) * extent(c, x, 1) * extent(c, x, 2);
        r->n_out[k] = x->kind == 'p' ? x->n_bits : (size_t)(n_row * extent(c, x, 3)) * 4;
        r->out[k] = peri_alloc(r->n_out[k]);
        if (!r->out[k]) return false;
        if (x->kind == 'p')
            memcpy(r->out[k], m->pool[pool++].at, x->n_bits);
        else
            copy_rows(c, x, m->arena.at, r->out[k], false);
    }
    return true;
}

/* Which operand an arena byte belongs to or follows, and how far it is into it. */
static void name_byte(const kit_case *c, size_t at, char *text, size_t room) {
    uint32_t nearest = 0;
    size_t best = 0;
    for (uint32_t k = 0; k < c->n_in + c->n_out; k++)
        if (is_activation(&c->x[k]) && c->x[k].off <= at && c->x[k].off >= best) {
            nearest = k;
            best = c->x[k].off;
        }
    if (best == 0)
        snprintf(text, room, "in front of the first operand");
    else
        snprintf(text, room, "byte %zu after the start of operand %u (%s)", at - best, nearest,
                 is_output(&c->x[nearest]) ? "an output" : "an input");
}

/* Everything but the outputs must be as it was. */
static void look_around(const kit_case *c, kit_memory *m, kit_result *r) {
    uint32_t pool = 0;
    for (uint32_t k = 0; k < c->n_in + c->n_out; k++)
        if (is_output(&c->x[k])) copy_rows(c, &c->x[k], m->before, r->out[k], true);
    if (r->outcome == KIT_RAN && memcmp(m->before, m->arena.at, m->arena.n) != 0) {
        char place_of[96];
        size_t i = 0;
        while (m->before[i] == m->arena.at[i])
            i++;
        name_byte(c, i, place_of, sizeof place_of);
        broken(r, "wrote outside the rows of its outputs: %s; found byte 0x%02x, expected 0x%02x",
               place_of, m->arena.at[i], m->before[i]);
    }
    for (uint32_t k = 0; k < c->n_in && r->outcome == KIT_RAN; k++) {
        if (c->x[k].kind != 'p') continue;
        const area *a = &m->pool[pool++];
        for (const unsigned char *q = a->map; q < a->at && r->outcome == KIT_RAN; q++)
            if (*q != 0xff) broken(r, "wrote in front of the pool of operand %u", k);
        if (c->shape->code == PERI_OP_ATTN && memcmp(a->at, c->x[k].bits, a->n) != 0)
            broken(r, "changed the pool of operand %u, which it may only read", k);
    }
}

static void run(kit_plugin *p, kit_case *c, kit_memory *m, const packed *program, kit_result *r) {
    step_block step;
    peri_error e = {0};
    if (!send(p, m, &e)) {
        broken(r, "memory: %s", e.text);
        return;
    }
    peri_bind bind = {.size = sizeof bind,
                      .n_weights = m->n_weight,
                      .n_pools = m->n_pool,
                      .arena = m->arena_buf.m.buf,
                      .weights = m->weight_at,
                      .pools = m->pool_at};
    make_step(c, &step);
    step_block sent = step;
    kit_place("run_op", c);
    int32_t status = p->api.run_op(p->dev, &program->head, 0, &bind, &step.head, &e);
    if (status == PERI_OK && !fetch(p, m, &e)) status = e.code;
    e.text[sizeof e.text - 1] = 0;
    kit_count();
    if (status != PERI_OK) {
        r->is_refused = true;
        broken(r, "supports said yes and run_op failed: %s (%s)",
               e.text[0] ? e.text : "no reason given", peri_status_name(status));
        return;
    }
    r->outcome = KIT_RAN;
    if (memcmp(&sent, &step, sizeof step) != 0) broken(r, "wrote into the step");
    if (!take_outputs(c, m, r)) broken(r, "the kit is out of memory");
    if (r->outcome == KIT_RAN) look_around(c, m, r);
}

void kit_case_run(kit_plugin *p, kit_case *c, kit_result *r) {
    kit_memory m;
    packed program;
    peri_support s;
    peri_error e = {0};
    *r = (kit_result){.outcome = KIT_DECLINED};
    if (!memory_init(&m, c, kit_host_now.shuffle)) {
        broken(r, "the kit is out of memory");
    } else {
        pack(c, m.arena.n, &program);
        int32_t hi = c->step.n[PERI_SYM_T] + c->slack;
        if (c->step.n[PERI_SYM_B] > hi) hi = c->step.n[PERI_SYM_B];
        if (hi < KIT_SEQS) hi = KIT_SEQS;
        int32_t status = ask(p, c, &program, hi, &s, &e);
        memcpy(r->numerics, s.numerics, sizeof r->numerics - 1);
        memcpy(r->why, s.why, sizeof r->why - 1);
        if (status == PERI_OK && s.yes)
            run(p, c, &m, &program, r);
        else if (status != PERI_OK)
            broken(r, "supports failed: %s", peri_status_name(status));
    }
    memory_fini(p, &m);
}

void kit_result_fini(kit_result *r) {
    for (uint32_t k = 0; k < KIT_OPERANDS; k++)
        peri_free(r->out[k]);
    *r = (kit_result){0};
}
