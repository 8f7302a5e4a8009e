/* SPDX-License-Identifier: MIT
 *
 * grammar_int.h - what the grammar's files share; included by core/run/grammar*.c only.
 *
 * grammar_parse.c    GBNF text to a tree
 * grammar_build.c    the tree to steps over bytes; left recursion
 * grammar.c          the matcher: states, made as they are reached
 * grammar_mask.c     the vocabulary's tree, masks and their cache
 *
 * Steps.  A rule is a graph of steps that read one byte, call a rule, fork or end.  Characters
 * above U+007F are several steps, so nothing after the parser knows about UTF-8. */
#ifndef PERI_RUN_GRAMMAR_INT_H
#define PERI_RUN_GRAMMAR_INT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "run/grammar.h"

/* ---- tree ------------------------------------------------------------------------------------ */

typedef enum gr_kind {
    GR_TEXT,   /* bytes of a literal, perhaps none */
    GR_CLASS,  /* one character of ranges */
    GR_REF,    /* a rule */
    GR_SEQ,    /* child after child */
    GR_ALT,    /* one of the children */
    GR_REPEAT, /* the only child min to max times */
} gr_kind;

typedef struct gr_range {
    uint32_t lo, hi; /* code points */
} gr_range;

enum { GR_FOREVER = -1, GR_MAX_REPEAT = 100000 };

typedef struct gr_node {
    gr_kind kind;
    uint32_t at;                  /* where it stands in the text, in bytes */
    struct gr_node *first, *next; /* children, of SEQ the last one first; siblings */
    struct gr_node *last;         /* of the children */
    peri_str text;                /* TEXT */
    const gr_range *range;        /* CLASS: [n_range] rising, apart */
    uint32_t n_range;
    uint32_t rule;    /* REF */
    int32_t min, max; /* REPEAT; max may be GR_FOREVER */
} gr_node;

typedef struct gr_rule {
    peri_str name;
    uint32_t at;   /* where it is defined, else first used */
    gr_node *body; /* NULL: only used so far */
} gr_rule;

typedef struct gr_tree {
    peri_str text;
    peri_arena *arena;
    gr_rule *rule; /* [n_rule], grown by peri_resize_array */
    uint32_t n_rule, room_rule;
    uint32_t *slot; /* [n_slot] hash of names: index of the rule + 1, or 0 */
    uint32_t n_slot;
    uint32_t root;
} gr_tree;

peri_status gr_parse(peri_str text, gr_tree *t, peri_error *err);
void gr_tree_fini(gr_tree *t);
/* "grammar: line L, column C: ..." */
peri_status gr_fail(const gr_tree *t, uint32_t at, peri_error *err, peri_status code,
                    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* The line of a place, from 1. */
uint32_t gr_line(const gr_tree *t, uint32_t at);
/* The tree to steps of a new grammar with one reference. */
peri_status gr_build(const gr_tree *t, peri_grammar **out, peri_error *err);

/* ---- steps ----------------------------------------------------------------------------------- */

typedef enum gr_op_kind {
    GR_ACCEPT, /* the text may end; op 0 and no other */
    GR_END,    /* of a rule; op 1 */
    GR_BYTE,   /* one byte of lo .. hi, then a */
    GR_SET,    /* one byte of set b, then a */
    GR_CALL,   /* rule b, then a */
    GR_FORK,   /* a or b */
} gr_op_kind;
enum { GR_OP_ACCEPT = 0, GR_OP_END = 1 };

typedef struct gr_op {
    uint8_t kind, lo, hi;
    uint32_t a, b;
} gr_op;

typedef struct gr_set {
    uint32_t bit[4]; /* ASCII only */
} gr_set;

struct peri_grammar {
    atomic_int refs;
    gr_op *op; /* [n_op] */
    uint32_t n_op, room_op;
    gr_set *set; /* [n_set] */
    uint32_t n_set, room_set;
    uint32_t *entry; /* [n_rule] first op; those the user named, then those of repetitions */
    uint32_t *rank;  /* [n_rule] callers before what they call first */
    uint32_t n_rule, root;
    uint8_t class_of[256]; /* bytes that no step tells apart have one class */
    uint8_t byte_of[256];  /* [n_class] one of them */
    uint32_t n_class;
};

static inline bool gr_reads(const peri_grammar *g, const gr_op *op, uint8_t byte) {
    if (op->kind == GR_BYTE) return byte >= op->lo && byte <= op->hi;
    return op->kind == GR_SET && byte < 128 && (g->set[op->b].bit[byte / 32] >> byte % 32 & 1);
}

/* ---- matcher ---------------------------------------------------------------------------------
 *
 * A state is a set of items: a step that may be next, and where its rule goes on when it ends,
 * which is a set of items too.  Sets are kept once, so a set is its number; the empty one is 0,
 * which as a state means that the text is not of the grammar, and behind the root that the text may
 * end.  Calls of one rule that begin at the same byte share one set to go on with: many readings of
 * a text take room in proportion to its length.  A call that is the last step of its rule leaves
 * nothing behind. */

typedef struct gr_item {
    uint32_t op, after; /* after: a set, or while a state is made GR_LOCAL | a rule called in it */
} gr_item;

typedef struct gr_state {
    uint32_t off, n; /* items, rising by op, then after */
    uint32_t hash;
    uint32_t row; /* of the states that follow, by class of the byte; GR_NONE: not made yet */
} gr_state;

#define GR_NONE  UINT32_MAX
#define GR_LOCAL (1u << 31)

/* A rule called in the state that is made: who called it. */
typedef struct gr_local {
    uint32_t stamp; /* of the state it is for */
    uint32_t edge;  /* list, GR_NONE ends it */
    uint32_t set;
    bool has_ended; /* its end was reached without reading */
} gr_local;
typedef struct gr_edge {
    gr_item to;
    uint32_t next;
} gr_edge;

typedef struct gr_items {
    gr_item *item;
    uint32_t n, room;
} gr_items;

/* Triggers: a tree of their texts; node 0 is its root. */
typedef struct gr_trigger {
    uint32_t child, sibling, fail; /* 0: none; fail: the longest end of it that is a node too */
    uint8_t byte;
    bool is_end;
} gr_trigger;

struct peri_matcher {
    peri_grammar *g;
    gr_items pool;
    gr_state *state; /* [n_state] */
    uint32_t n_state, room_state;
    uint32_t *slot; /* [n_slot] hash of the states: number + 1, or 0 */
    uint32_t n_slot;
    uint32_t *row; /* [n_row][n_class] states or GR_NONE */
    uint32_t n_row, room_row;
    uint32_t start; /* GR_NONE: not made yet */
    uint64_t age;
    gr_trigger *trigger; /* [n_trigger] nodes, none without triggers */
    uint32_t n_trigger;
    /* while a state is made */
    uint32_t stamp; /* counts them, from 1 */
    gr_items todo, out;
    gr_local *local;            /* [n_rule] */
    uint32_t *called, n_called; /* [n_rule] rules called in it */
    gr_edge *edge;
    uint32_t n_edge, room_edge;
    uint64_t *seen; /* [n_seen] hash of the items of todo: stamp, index */
    uint32_t n_seen;
};

/* One byte on; the way for states that were not reached before. */
peri_status gr_step(peri_matcher *m, peri_match *state, uint8_t byte, peri_error *err);
/* What is known to follow, or GR_NONE. */
static inline uint32_t gr_known(const peri_matcher *m, peri_match state, uint8_t byte) {
    if (state & GR_LOCAL) return GR_NONE;
    uint32_t row = m->state[state].row;
    return row == GR_NONE ? GR_NONE : m->row[(size_t)row * m->g->n_class + m->g->class_of[byte]];
}

#endif
