/* SPDX-License-Identifier: MIT
 *
 * graph.c - ops that run together, a whole step as a rule: as one graph, launched by one call.
 *
 * Problem.  A launch costs microseconds of a processor, and a step has hundreds of them; a graph of
 * the same kernels has none of that, but its arguments are fixed.
 *
 * Choice.  What changes from step to step is read on the device: a step is laid out anew in a block
 * that stays where it is, with room between the arrays that follows from the shape alone.  A shape
 * is T, S, R and the number of blocks per sequence, rounded up to a power of two; so a growing
 * context makes a new graph only when it has doubled.  A shape is run op by op when it first
 * occurs (prompts have shapes that never come again), recorded when it comes back, and replayed
 * from then on.  Buffers that have moved make all graphs void.
 *
 * The kernels and their arguments are those of run_op, hence the bits.  Where recording fails, the
 * ops are launched one by one from then on, and that is said once. */
#include <stdio.h>
#include <string.h>

#include "cu.h"

enum { N_GRAPH = 32 };

typedef struct graph {
    int32_t n[PERI_NSYM]; /* the shape */
    uint64_t used;        /* c->n_run when it last ran */
    CUgraphExec exec;     /* NULL: the shape has occurred once */
} graph;

struct peri_compiled {
    const peri_program *p;
    uint32_t first, n;
    cu_limits limits;
    peri_step *next; /* the step in its fixed layout; room bytes, for the bucket's largest */
    uint64_t room;
    cu_step step;
    int32_t max_blocks;   /* of the bucket */
    CUdeviceptr *address; /* [n_address] of the buffers that the graphs know, scratch too */
    uint32_t n_address;
    graph graph[N_GRAPH];
    uint32_t n_graph;
    uint64_t n_run;
};

/* ---- the step in its fixed layout -------------------------------------------------------------
 */

static uint64_t step_bytes(int64_t n_tok, int64_t n_seq, int64_t n_row, int64_t n_block) {
    return sizeof(peri_step) + 4 * (uint64_t)(4 * n_tok + n_seq + n_row + n_seq * n_block);
}

/* Blocks per sequence that tables of this shape have room for. */
static int32_t stride_of(const peri_compiled *c, int32_t n_block) {
    int32_t n = 1;
    while (n < n_block && n < 1 << 30)
        n *= 2;
    return n < c->max_blocks ? n : c->max_blocks;
}

static uint32_t put(peri_step *to, uint32_t *at, const int32_t *v, int32_t n) {
    uint32_t here = *at;
    memcpy((char *)to + here, v, 4 * (size_t)n);
    *at += 4 * (uint32_t)n;
    return here;
}

static int32_t lay_out(peri_compiled *c, const peri_step *s, peri_error *e) {
    peri_step *to = c->next;
    int32_t n_tok = s->n[PERI_SYM_T], n_seq = s->n[PERI_SYM_S], n_row = s->n[PERI_SYM_R];
    int32_t n_block = s->n[PERI_SYM_B], stride = stride_of(c, n_block);
    if (n_tok < 0 || n_seq < 0 || n_row < 0 || n_block < 0 || n_block > stride ||
        step_bytes(n_tok, n_seq, n_row, stride) > c->room)
        return peri_plugin_fail(e, PERI_E_RANGE,
                                "a step of %d tokens, %d sequences, %d rows and %d blocks is "
                                "larger than what was compiled",
                                (int)n_tok, (int)n_seq, (int)n_row, (int)n_block);
    *to = (peri_step){.size = sizeof *to, .number = s->number};
    memcpy(to->n, s->n, sizeof to->n);
    to->n[PERI_SYM_B] = stride;
    uint32_t at = sizeof *to;
    to->tok = put(to, &at, peri_step_array(s, s->tok), n_tok);
    to->pos = put(to, &at, peri_step_array(s, s->pos), n_tok);
    to->seq = put(to, &at, peri_step_array(s, s->seq), n_tok);
    to->slot = put(to, &at, peri_step_array(s, s->slot), n_tok);
    to->ctx = put(to, &at, peri_step_array(s, s->ctx), n_seq);
    to->out_row = put(to, &at, peri_step_array(s, s->out_row), n_row);
    to->table = at;
    for (int32_t k = 0; k < n_seq; k++) {
        put(to, &at, peri_step_array(s, s->table) + (int64_t)k * n_block, n_block);
        memset((char *)to + at, 0xff, 4 * (size_t)(stride - n_block)); /* -1: no block */
        at += 4 * (uint32_t)(stride - n_block);
    }
    to->bytes = at;
    return PERI_OK;
}

/* ---- graphs -----------------------------------------------------------------------------------
 */

static void drop_graphs(peri_dev *d, peri_compiled *c) {
    for (uint32_t i = 0; i < c->n_graph; i++)
        if (c->graph[i].exec) d->cu->cuGraphExecDestroy(c->graph[i].exec);
    c->n_graph = 0;
}

static CUdeviceptr address_of(const peri_dev *d, const peri_bind *m, uint32_t i) {
    if (i > m->n_weights + m->n_pools) return d->scratch;
    const peri_buf *b = i == 0              ? m->arena
                        : i <= m->n_weights ? m->weights[i - 1]
                                            : m->pools[i - 1 - m->n_weights];
    return b ? b->at : 0;
}

/* Graphs hold addresses: those of other buffers are void. */
static int32_t follow_bind(peri_dev *d, peri_compiled *c, const peri_bind *m, peri_error *e) {
    uint32_t n = 2 + m->n_weights + m->n_pools, i = 0;
    if (n != c->n_address) {
        CUdeviceptr *a = d->host->alloc(n * sizeof *a, _Alignof(CUdeviceptr), -1);
        if (!a) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for %u addresses", n);
        d->host->free(c->address);
        c->address = a;
        c->n_address = n;
        memset(a, 0xff, n * sizeof *a); /* no buffer's */
    }
    while (i < n && c->address[i] == address_of(d, m, i))
        i++;
    if (i == n) return PERI_OK;
    drop_graphs(d, c);
    for (; i < n; i++)
        c->address[i] = address_of(d, m, i);
    return PERI_OK;
}

/* The graph of this shape, or a place for it, the one unused for longest. */
static graph *find_graph(peri_dev *d, peri_compiled *c, bool *is_new) {
    graph *oldest = &c->graph[0];
    *is_new = false;
    for (uint32_t i = 0; i < c->n_graph; i++) {
        graph *g = &c->graph[i];
        if (memcmp(g->n, c->next->n, sizeof g->n) == 0) return g;
        if (g->used < oldest->used) oldest = g;
    }
    *is_new = true;
    if (c->n_graph < N_GRAPH)
        oldest = &c->graph[c->n_graph++];
    else if (oldest->exec)
        d->cu->cuGraphExecDestroy(oldest->exec);
    *oldest = (graph){0};
    memcpy(oldest->n, c->next->n, sizeof oldest->n);
    return oldest;
}

static int32_t queue_all(peri_dev *d, const peri_compiled *c, const peri_bind *m, peri_error *e) {
    return cu_queue_ops(d, (cu_ops){c->p, c->first, c->n}, m, c->next, c->step.at, e);
}

static int32_t capture(peri_dev *d, const peri_compiled *c, const peri_bind *m, CUgraph *out,
                       peri_error *e) {
    *out = NULL;
    CUresult rc = d->cu->cuStreamBeginCapture(d->stream, CU_CAPTURE_THREAD_LOCAL);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "cuStreamBeginCapture", rc);
    int32_t st = queue_all(d, c, m, e);
    rc = d->cu->cuStreamEndCapture(d->stream, out); /* always: it ends the recording */
    if (!st && rc != CUDA_SUCCESS) st = cu_fail(d->cu, e, "cuStreamEndCapture", rc);
    if (!st && !*out) st = peri_plugin_fail(e, PERI_E_OTHER, "cuStreamEndCapture gave no graph");
    return st;
}

static int32_t record(peri_dev *d, const peri_compiled *c, const peri_bind *m, CUgraphExec *out,
                      peri_error *e) {
    CUgraph g;
    int32_t st = capture(d, c, m, &g, e);
    *out = NULL;
    if (!st) {
        CUresult rc = d->cu->cuGraphInstantiateWithFlags(out, g, 0);
        if (rc != CUDA_SUCCESS) {
            *out = NULL;
            st = cu_fail(d->cu, e, "cuGraphInstantiateWithFlags", rc);
        }
    }
    if (g) d->cu->cuGraphDestroy(g);
    return st;
}

/* Recording failed: what it says, once, and launches from now on. */
static void do_without(peri_dev *d, const peri_error *why) {
    char text[320];
    snprintf(text, sizeof text,
             "cuda: no graphs of whole steps, operations are launched one by one: %s", why->text);
    d->host->log(2, text);
    d->has_graphs = false;
}

static int32_t run_graph(peri_dev *d, peri_compiled *c, const peri_bind *m, peri_error *e) {
    peri_error why = {0};
    bool is_new;
    graph *g = find_graph(d, c, &is_new);
    g->used = ++c->n_run;
    if (is_new) return queue_all(d, c, m, e);
    if (!g->exec && record(d, c, m, &g->exec, &why) != PERI_OK) {
        do_without(d, &why);
        return queue_all(d, c, m, e);
    }
    CUresult rc = d->cu->cuGraphLaunch(g->exec, d->stream);
    return rc == CUDA_SUCCESS ? PERI_OK : cu_fail(d->cu, e, "cuGraphLaunch", rc);
}

/* ---- what the core calls ----------------------------------------------------------------------
 */

int32_t cu_compile(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                   const peri_bucket *b, peri_compiled **out, peri_error *e) {
    *out = NULL;
    uint64_t room =
        step_bytes(b->hi[PERI_SYM_T], b->hi[PERI_SYM_S], b->hi[PERI_SYM_R], b->hi[PERI_SYM_B]);
    cu_limits l = {0};
    for (uint32_t i = first; i < first + n; i++)
        if (!cu_limits_add(&l, p, i))
            return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "pools with blocks of two sizes");
    if (room > UINT32_MAX)
        return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "a step of %llu bytes",
                                (unsigned long long)room);
    peri_compiled *c = d->host->alloc(sizeof *c, _Alignof(peri_compiled), -1);
    peri_step *next = d->host->alloc((size_t)room, 64, -1);
    if (!c || !next) {
        d->host->free(c);
        d->host->free(next);
        return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a compiled plan");
    }
    *c = (peri_compiled){.p = p,
                         .first = first,
                         .n = n,
                         .limits = l,
                         .next = next,
                         .room = room,
                         .max_blocks = b->hi[PERI_SYM_B]};
    *out = c;
    return PERI_OK;
}

int32_t cu_run_compiled(peri_dev *d, peri_compiled *c, const peri_bind *m, const peri_step *s,
                        peri_error *e) {
    int32_t st = cu_limits_check(&c->limits, s, e);
    if (!st) st = cu_enter(d, e);
    if (!st) st = follow_bind(d, c, m, e);
    if (!st) st = lay_out(c, s, e);
    if (!st && !c->step.room) st = cu_step_grow(d, &c->step, c->room, e);
    if (!st) st = cu_step_send(d, &c->step, c->next, e);
    if (st) return st;
    return d->has_graphs ? run_graph(d, c, m, e) : queue_all(d, c, m, e);
}

void cu_free_compiled(peri_dev *d, peri_compiled *c) {
    if (!c) return;
    d->cu->cuCtxSetCurrent(d->context);
    d->cu->cuStreamSynchronize(d->stream);
    drop_graphs(d, c);
    cu_step_free(d, &c->step);
    d->host->free(c->address);
    d->host->free(c->next);
    d->host->free(c);
}
