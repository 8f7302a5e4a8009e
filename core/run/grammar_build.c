/* SPDX-License-Identifier: MIT
 *
 * grammar_build.c - the tree to steps over bytes.
 *
 * Everything is built from its end: build(node, next) makes the steps that read the node and go on
 * at `next`, and gives back the first of them.  A repetition writes its item out as often as it has
 * to stand there; an item of more than one step becomes a rule of its own first, so what nested
 * repetitions take adds up and does not multiply.  Characters above U+007F become sequences of byte
 * ranges (the surrogates are no characters). */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "run/grammar_int.h"

#include "base/compiler.h"

typedef struct builder {
    const gr_tree *t;
    peri_grammar *g;
    uint32_t *first;      /* [n_rule + 1] a rule's steps are first[r] .. first[r + 1] */
    const gr_node **body; /* [n_rule] of the rules of repetitions behind the named ones */
    uint32_t room_rule;
    uint32_t class_from; /* the first step of the class under way */
    peri_error *err;
} builder;

static peri_status no_memory(const builder *b) {
    return peri_fail(b->err, PERI_E_NOMEM, "out of memory for a grammar");
}

/* ---- steps ----------------------------------------------------------------------------------- */

static peri_status add_op(builder *b, uint32_t at, gr_op op, uint32_t *out) {
    peri_grammar *g = b->g;
    if (g->n_op == PERI_GRAMMAR_STEPS)
        return gr_fail(b->t, at, b->err, PERI_E_RANGE,
                       "the grammar takes more than %d steps here, repetitions written out",
                       PERI_GRAMMAR_STEPS);
    if (g->n_op == g->room_op) {
        uint32_t room = g->room_op ? g->room_op * 2 : 256;
        gr_op *grown = peri_resize_array(g->op, room, sizeof *grown);
        if (!grown) return no_memory(b);
        g->op = grown;
        g->room_op = room;
    }
    *out = g->n_op;
    g->op[g->n_op++] = op;
    return PERI_OK;
}

static peri_status add_set(builder *b, const gr_set *set, uint32_t *out) {
    peri_grammar *g = b->g;
    if (g->n_set == g->room_set) {
        uint32_t room = g->room_set ? g->room_set * 2 : 32;
        gr_set *grown = peri_resize_array(g->set, room, sizeof *grown);
        if (!grown) return no_memory(b);
        g->set = grown;
        g->room_set = room;
    }
    *out = g->n_set;
    g->set[g->n_set++] = *set;
    return PERI_OK;
}

/* One more alternative: *head becomes it, or forks to it. */
static peri_status add_choice(builder *b, uint32_t at, uint32_t op, bool is_first, uint32_t *head) {
    if (!is_first) return add_op(b, at, (gr_op){.kind = GR_FORK, .a = *head, .b = op}, head);
    *head = op;
    return PERI_OK;
}

/* ---- characters ------------------------------------------------------------------------------ */

typedef struct choices {
    uint32_t at, next, head;
    bool is_empty;
} choices;

/* A byte range, shared with one that reads the same and goes on the same way. */
static peri_status add_byte(builder *b, uint32_t at, gr_op op, uint32_t *out) {
    enum { LOOK_BACK = 16 };
    peri_grammar *g = b->g;
    for (uint32_t i = g->n_op; i > b->class_from && i + LOOK_BACK > g->n_op; i--) {
        const gr_op *x = &g->op[i - 1];
        if (x->kind == GR_BYTE && x->lo == op.lo && x->hi == op.hi && x->a == op.a) {
            *out = i - 1;
            return PERI_OK;
        }
    }
    return add_op(b, at, op, out);
}

/* lo and hi are encoded in n bytes each, and the bytes between them are free to vary. */
static peri_status add_sequence(builder *b, choices *c, uint32_t lo, uint32_t hi, int n) {
    uint32_t next = c->next;
    peri_status st = PERI_OK;
    for (int i = 0; i < n && !st; i++, lo >>= 6, hi >>= 6) {
        uint32_t lead = i == n - 1 ? 0xF00u >> n & 0xFF : 0x80, mask = i == n - 1 ? 0xFF : 0x3F;
        gr_op op = {.kind = GR_BYTE,
                    .lo = (uint8_t)(lead | (lo & mask)),
                    .hi = (uint8_t)(lead | (hi & mask)),
                    .a = next};
        st = add_byte(b, c->at, op, &next);
    }
    if (!st) st = add_choice(b, c->at, next, c->is_empty, &c->head);
    c->is_empty = false;
    return st;
}

/* Code points lo .. hi of n bytes each, cut where a following byte is not free. */
static peri_status add_points(builder *b, choices *c, uint32_t lo, uint32_t hi, int n) {
    for (int i = 1; i < n; i++) {
        uint32_t m = (1u << 6 * i) - 1, cut;
        if ((lo & ~m) == (hi & ~m)) continue;
        if (lo & m)
            cut = lo | m;
        else if ((hi & m) != m)
            cut = (hi & ~m) - 1;
        else
            continue;
        peri_status st = add_points(b, c, lo, cut, n);
        return st ? st : add_points(b, c, cut + 1, hi, n);
    }
    return add_sequence(b, c, lo, hi, n);
}

static peri_status add_ascii(builder *b, choices *c, const gr_node *n) {
    gr_set set = {{0}};
    uint32_t lo = 128, hi = 0, count = 0, op;
    for (uint32_t i = 0; i < n->n_range && n->range[i].lo < 128; i++)
        for (uint32_t x = n->range[i].lo; x < 128 && x <= n->range[i].hi; x++) {
            set.bit[x / 32] |= 1u << x % 32;
            lo = x < lo ? x : lo;
            hi = x;
            count++;
        }
    if (!count) return PERI_OK;
    gr_op made = {.kind = GR_BYTE, .lo = (uint8_t)lo, .hi = (uint8_t)hi, .a = c->next};
    peri_status st = PERI_OK;
    if (count != hi - lo + 1) {
        made.kind = GR_SET;
        st = add_set(b, &set, &made.b);
    }
    if (!st) st = add_op(b, c->at, made, &op);
    if (!st) st = add_choice(b, c->at, op, true, &c->head);
    c->is_empty = false;
    return st;
}

static peri_status build_class(builder *b, const gr_node *n, uint32_t next, uint32_t *out) {
    static const struct {
        uint32_t lo, hi;
        int n;
    } part[] = {{0x80, 0x7FF, 2}, {0x800, 0xD7FF, 3}, {0xE000, 0xFFFF, 3}, {0x10000, 0x10FFFF, 4}};
    choices c = {.at = n->at, .next = next, .is_empty = true};
    b->class_from = b->g->n_op;
    peri_status st = add_ascii(b, &c, n);
    for (uint32_t i = 0; i < n->n_range; i++)
        for (int k = 0; k < 4 && !st; k++) {
            uint32_t lo = n->range[i].lo > part[k].lo ? n->range[i].lo : part[k].lo;
            uint32_t hi = n->range[i].hi < part[k].hi ? n->range[i].hi : part[k].hi;
            if (lo <= hi) st = add_points(b, &c, lo, hi, part[k].n);
        }
    if (!st && c.is_empty)
        return gr_fail(b->t, n->at, b->err, PERI_E_INVALID, "no character is in this class");
    *out = c.head;
    return st;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static peri_status build(builder *b, const gr_node *n, uint32_t next, uint32_t *out);

static peri_status build_text(builder *b, const gr_node *n, uint32_t next, uint32_t *out) {
    peri_status st = PERI_OK;
    for (size_t i = n->text.size; i > 0 && !st; i--) {
        uint8_t x = (uint8_t)n->text.data[i - 1];
        st = add_op(b, n->at, (gr_op){.kind = GR_BYTE, .lo = x, .hi = x, .a = next}, &next);
    }
    *out = next;
    return st;
}

static bool is_one_step(const gr_node *n) {
    return n->kind == GR_REF || (n->kind == GR_TEXT && n->text.size == 1) ||
           (n->kind == GR_CLASS && n->n_range && n->range[n->n_range - 1].hi < 128);
}

/* What to write out for an item that stands there several times: itself, or a call of its rule. */
static peri_status callable(builder *b, const gr_node *item, gr_node *call) {
    peri_grammar *g = b->g;
    if (is_one_step(item)) {
        *call = *item;
        return PERI_OK;
    }
    if (g->n_rule == b->room_rule) {
        uint32_t room = b->room_rule * 2;
        const gr_node **body = peri_resize_array(b->body, room, sizeof *body);
        if (body) b->body = body;
        uint32_t *first = peri_resize_array(b->first, (size_t)room + 1, sizeof *first);
        if (first) b->first = first;
        uint32_t *entry = peri_resize_array(g->entry, room, sizeof *entry);
        if (entry) g->entry = entry;
        if (!body || !first || !entry) return no_memory(b);
        b->room_rule = room;
    }
    b->body[g->n_rule] = item;
    *call = (gr_node){.kind = GR_REF, .at = item->at, .rule = g->n_rule++};
    return PERI_OK;
}

/* item+ and item*: a fork behind the item goes back to it. */
static peri_status build_loop(builder *b, const gr_node *item, bool is_plus, uint32_t next,
                              uint32_t *out) {
    uint32_t fork, entry;
    peri_status st = add_op(b, item->at, (gr_op){.kind = GR_FORK, .b = next}, &fork);
    if (!st) st = build(b, item, fork, &entry);
    if (st) return st;
    b->g->op[fork].a = entry;
    *out = is_plus ? entry : fork;
    return PERI_OK;
}

static peri_status build_repeat(builder *b, const gr_node *n, uint32_t next, uint32_t *out) {
    const gr_node *item = n->first;
    bool is_loop = n->max == GR_FOREVER;
    int32_t n_must = n->min, n_may = is_loop ? 0 : n->max - n->min;
    uint32_t at = next;
    peri_status st = PERI_OK;
    gr_node call;
    if (is_loop && n->min <= 1) return build_loop(b, item, n->min == 1, next, out);
    if (n_must + n_may > 1) {
        st = callable(b, item, &call);
        item = &call;
    }
    if (!st && is_loop) {
        st = build_loop(b, item, true, next, &at);
        n_must--;
    }
    for (int32_t i = 0; i < n_may && !st; i++) {
        st = build(b, item, at, &at);
        if (!st) st = add_op(b, n->at, (gr_op){.kind = GR_FORK, .a = at, .b = next}, &at);
    }
    for (int32_t i = 0; i < n_must && !st; i++)
        st = build(b, item, at, &at);
    *out = at;
    return st;
}

static peri_status build_list(builder *b, const gr_node *n, uint32_t next, uint32_t *out) {
    peri_status st = PERI_OK;
    *out = next;
    for (const gr_node *c = n->first; c && !st; c = c->next) {
        uint32_t entry;
        st = build(b, c, n->kind == GR_SEQ ? *out : next, &entry);
        if (st) return st;
        if (n->kind == GR_SEQ)
            *out = entry;
        else
            st = add_choice(b, n->at, entry, c == n->first, out);
    }
    return st;
}

static peri_status build(builder *b, const gr_node *n, uint32_t next, uint32_t *out) {
    switch (n->kind) {
    case GR_TEXT:
        return build_text(b, n, next, out);
    case GR_CLASS:
        return build_class(b, n, next, out);
    case GR_REF:
        return add_op(b, n->at, (gr_op){.kind = GR_CALL, .a = next, .b = n->rule}, out);
    case GR_REPEAT:
        return build_repeat(b, n, next, out);
    default:
        return build_list(b, n, next, out);
    }
}

static peri_status build_rules(builder *b) {
    peri_grammar *g = b->g;
    peri_status st = PERI_OK;
    for (uint32_t r = 0; r < g->n_rule && !st; r++) { /* n_rule grows */
        b->first[r] = g->n_op;
        const gr_node *body = r < b->t->n_rule ? b->t->rule[r].body : b->body[r];
        uint32_t entry = 0;
        st = build(b, body, GR_OP_END, &entry);
        g->entry[r] = entry;
        b->first[r + 1] = g->n_op;
    }
    return st;
}

/* ---- left recursion --------------------------------------------------------------------------
 *
 * A step is at the left of its rule when nothing needs to be read before it.  Which are, and which
 * rules may read nothing, is found together: a call at the left lets through what follows it once
 * its rule is known to reach its end. */

typedef struct left {
    const peri_grammar *g;
    bool *is_left;      /* [n_op] */
    uint32_t *waiting;  /* [n_op] calls of one rule that wait for its end: the next one, or 0 */
    uint32_t *head;     /* [n_rule] the first of them */
    bool *may_be_empty; /* [n_rule] */
    uint32_t *rule_of;  /* [n_op] */
    uint32_t *todo;     /* [n_op + n_rule] steps, or ENDS | a rule */
    uint32_t n_todo;
} left;
enum { ENDS = 1 << 30 };

static void reach(left *l, uint32_t rule, uint32_t op) {
    bool *seen = op == GR_OP_END ? &l->may_be_empty[rule] : &l->is_left[op];
    if (*seen) return;
    *seen = true;
    l->todo[l->n_todo++] = op == GR_OP_END ? ENDS | rule : op;
}

static void follow(left *l, uint32_t at) {
    const gr_op *op = at & ENDS ? NULL : &l->g->op[at];
    if (!op) {
        for (uint32_t c = l->head[at & ~(uint32_t)ENDS]; c; c = l->waiting[c])
            reach(l, l->rule_of[c], l->g->op[c].a);
    } else if (op->kind == GR_FORK) {
        reach(l, l->rule_of[at], op->a);
        reach(l, l->rule_of[at], op->b);
    } else if (op->kind == GR_CALL && l->may_be_empty[op->b]) {
        reach(l, l->rule_of[at], op->a);
    } else if (op->kind == GR_CALL) {
        l->waiting[at] = l->head[op->b];
        l->head[op->b] = at;
    }
}

static void left_free(left *l) {
    peri_free(l->is_left);
    peri_free(l->waiting);
    peri_free(l->head);
    peri_free(l->may_be_empty);
    peri_free(l->rule_of);
    peri_free(l->todo);
}

static bool left_find(left *l, const builder *b) {
    const peri_grammar *g = l->g = b->g;
    l->is_left = peri_calloc(g->n_op, sizeof *l->is_left);
    l->waiting = peri_calloc(g->n_op, sizeof *l->waiting);
    l->head = peri_calloc(g->n_rule, sizeof *l->head);
    l->may_be_empty = peri_calloc(g->n_rule, sizeof *l->may_be_empty);
    l->rule_of = peri_calloc(g->n_op, sizeof *l->rule_of);
    l->todo = peri_alloc_array((size_t)g->n_op + g->n_rule, sizeof *l->todo);
    if (!l->is_left || !l->waiting || !l->head || !l->may_be_empty || !l->rule_of || !l->todo)
        return false;
    for (uint32_t r = 0; r < g->n_rule; r++) {
        for (uint32_t i = b->first[r]; i < b->first[r + 1]; i++)
            l->rule_of[i] = r;
        reach(l, r, g->entry[r]);
    }
    while (l->n_todo)
        follow(l, l->todo[--l->n_todo]);
    return true;
}

/* One rule on the way down and the step where its search stands. */
typedef struct visit {
    uint32_t rule, op;
} visit;
enum { NEW, OPEN, DONE };

/* The rules from the one that is called again on, in words. */
static peri_status recursive(const builder *b, const visit *way, uint32_t n, uint32_t rule) {
    char words[160];
    size_t used = 0;
    const gr_rule *first = NULL;
    uint32_t i = 0;
    while (way[i].rule != rule)
        i++;
    for (uint32_t k = i; k <= n; k++) {
        uint32_t r = k < n ? way[k].rule : way[i].rule;
        if (r >= b->t->n_rule) continue; /* of a repetition */
        const gr_rule *x = &b->t->rule[r];
        if (!first) first = x;
        int size = snprintf(words + used, sizeof words - used, "%s%.*s", used ? " -> " : "",
                            PERI_STR_ARG(x->name));
        used += (size_t)size < sizeof words - used ? (size_t)size : sizeof words - used - 1;
    }
    return gr_fail(b->t, first->at, b->err, PERI_E_INVALID,
                   "the rule \"%.*s\" begins with itself (%s), which is left recursion; write it "
                   "with a repetition",
                   PERI_STR_ARG(first->name), words);
}

/* Depth first, each rule once; a rule that calls an open one is recursive. */
static peri_status rank_from(builder *b, const left *l, uint8_t *seen, visit *way, uint32_t root,
                             uint32_t *rank) {
    const peri_grammar *g = b->g;
    uint32_t n = 0;
    if (seen[root] != NEW) return PERI_OK;
    way[n++] = (visit){root, b->first[root]};
    seen[root] = OPEN;
    while (n) {
        visit *v = &way[n - 1];
        if (v->op == b->first[v->rule + 1]) {
            seen[v->rule] = DONE;
            g->rank[v->rule] = --*rank;
            n--;
            continue;
        }
        const gr_op *op = &g->op[v->op++];
        if (op->kind != GR_CALL || !l->is_left[op - g->op] || seen[op->b] == DONE) continue;
        if (seen[op->b] == OPEN) return recursive(b, way, n, op->b);
        seen[op->b] = OPEN;
        way[n++] = (visit){op->b, b->first[op->b]};
    }
    return PERI_OK;
}

static peri_status rank_rules(builder *b) {
    peri_grammar *g = b->g;
    left l = {0};
    uint32_t rank = g->n_rule;
    uint8_t *seen = peri_calloc(g->n_rule, sizeof *seen);
    visit *way = peri_alloc_array(g->n_rule, sizeof *way);
    g->rank = peri_calloc(g->n_rule, sizeof *g->rank);
    peri_status st = seen && way && g->rank && left_find(&l, b) ? PERI_OK : no_memory(b);
    for (uint32_t r = 0; r < g->n_rule && !st; r++)
        st = rank_from(b, &l, seen, way, r, &rank);
    left_free(&l);
    peri_free(seen);
    peri_free(way);
    return st;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void class_bytes(peri_grammar *g) {
    bool cut[257] = {true};
    for (uint32_t i = 0; i < g->n_op; i++)
        if (g->op[i].kind == GR_BYTE) cut[g->op[i].lo] = cut[g->op[i].hi + 1] = true;
    for (uint32_t i = 0; i < g->n_set; i++)
        for (uint32_t x = 1; x <= 128; x++) {
            bool is_in = x < 128 && (g->set[i].bit[x / 32] >> x % 32 & 1);
            bool was_in = g->set[i].bit[(x - 1) / 32] >> (x - 1) % 32 & 1;
            if (is_in != was_in) cut[x] = true;
        }
    for (uint32_t x = 0; x < 256; x++) {
        if (cut[x]) g->byte_of[g->n_class++] = (uint8_t)x;
        g->class_of[x] = (uint8_t)(g->n_class - 1);
    }
}

peri_status gr_build(const gr_tree *t, peri_grammar **out, peri_error *err) {
    builder b = {.t = t, .room_rule = t->n_rule, .err = err};
    uint32_t op;
    *out = NULL;
    peri_grammar *g = b.g = peri_calloc(1, sizeof *g);
    if (!g) return no_memory(&b);
    atomic_init(&g->refs, 1);
    g->n_rule = t->n_rule;
    b.first = peri_alloc_array((size_t)t->n_rule + 1, sizeof *b.first);
    b.body = peri_calloc(t->n_rule, sizeof *b.body);
    g->entry = peri_alloc_array(t->n_rule, sizeof *g->entry);
    peri_status st = b.first && b.body && g->entry ? PERI_OK : no_memory(&b);
    if (!st) st = add_op(&b, 0, (gr_op){.kind = GR_ACCEPT}, &op);
    if (!st) st = add_op(&b, 0, (gr_op){.kind = GR_END}, &op);
    if (!st) st = build_rules(&b);
    if (!st) st = rank_rules(&b);
    if (!st) {
        class_bytes(g);
        g->root = t->root;
    }
    peri_free(b.first);
    peri_free(b.body);
    if (st)
        peri_grammar_free(g);
    else
        *out = g;
    return st;
}
