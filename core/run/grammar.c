/* SPDX-License-Identifier: MIT
 *
 * grammar.c - grammars as objects, and the matcher: states, made as they are reached.
 *
 * A state is made from the items that read the byte: a list of things to do is worked off - a fork
 * adds both ways, a call the beginning of its rule, an end what follows the call - until only steps
 * that read remain.  Nothing is done twice.  As no rule begins with itself, rules called in one
 * state can be numbered callers first, which is the order their sets are kept in. */
#include <string.h>

#include "base/sort.h"
#include "base/status.h"
#include "run/grammar_int.h"

#include "base/compiler.h"

enum {
    MAX_TODO = 1 << 18, /* items while one state is made */
    MOST = 256 << 20,   /* bytes that one pick may make */
};

/* ---- grammars -------------------------------------------------------------------------------- */

peri_status peri_grammar_new(peri_str text, peri_grammar **out, peri_error *err) {
    gr_tree t;
    *out = NULL;
    peri_status st = gr_parse(text, &t, err);
    if (!st) st = gr_build(&t, out, err);
    gr_tree_fini(&t);
    return st;
}

peri_grammar *peri_grammar_hold(peri_grammar *g) {
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void peri_grammar_free(peri_grammar *g) {
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1) return;
    peri_free(g->op);
    peri_free(g->set);
    peri_free(g->entry);
    peri_free(g->rank);
    peri_free(g);
}

/* ---- growing --------------------------------------------------------------------------------- */

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "out of memory to follow a grammar");
}

/* p with room for n more elements, or NULL. */
static void *grown(void *p, uint32_t used, uint32_t *room, size_t n, size_t element) {
    if (p && n <= *room - used) return p;
    size_t want = (size_t)*room * 2 > used + n ? (size_t)*room * 2 : used + n + 16;
    if (want > UINT32_MAX / 2) return NULL;
    p = peri_resize_array(p, want, element);
    if (p) *room = (uint32_t)want;
    return p;
}

static bool reserve(gr_items *l, size_t n) {
    gr_item *p = grown(l->item, l->n, &l->room, n, sizeof *p);
    if (p) l->item = p;
    return p != NULL;
}

static bool push(gr_items *l, gr_item x) {
    if (!reserve(l, 1)) return false;
    l->item[l->n++] = x;
    return true;
}

size_t peri_matcher_bytes(const peri_matcher *m) {
    return m->pool.n * sizeof *m->pool.item + m->n_state * sizeof *m->state +
           (size_t)m->n_row * m->g->n_class * sizeof *m->row + m->n_slot * sizeof *m->slot;
}

/* ---- sets kept once -------------------------------------------------------------------------- */

static bool is_before(gr_item a, gr_item b) {
    return a.op != b.op ? a.op < b.op : a.after < b.after;
}

/* Sort by op and after (Shell's way: the lists are short), each once. */
static void sort(gr_items *l) {
    uint32_t gap = 1, k = 0;
    while (gap < l->n / 3)
        gap = gap * 3 + 1;
    for (; gap; gap /= 3)
        for (uint32_t i = gap; i < l->n; i++) {
            gr_item x = l->item[i];
            uint32_t j = i;
            for (; j >= gap && is_before(x, l->item[j - gap]); j -= gap)
                l->item[j] = l->item[j - gap];
            l->item[j] = x;
        }
    for (uint32_t i = 0; i < l->n; i++)
        if (!k || is_before(l->item[k - 1], l->item[i])) l->item[k++] = l->item[i];
    l->n = k;
}

static uint32_t mix(uint32_t h, uint32_t x) {
    h = (h ^ x) * 0x9E3779B1u;
    return h ^ h >> 15;
}

static peri_status grow_slots(peri_matcher *m, peri_error *err) {
    if ((size_t)m->n_state * 2 < m->n_slot) return PERI_OK;
    uint32_t n = m->n_slot ? m->n_slot * 2 : 256;
    uint32_t *slot = peri_calloc(n, sizeof *slot);
    if (!slot) return no_memory(err);
    for (uint32_t s = 0; s < m->n_state; s++) {
        uint32_t i = m->state[s].hash & (n - 1);
        while (slot[i])
            i = (i + 1) & (n - 1);
        slot[i] = s + 1;
    }
    peri_free(m->slot);
    m->slot = slot;
    m->n_slot = n;
    return PERI_OK;
}

/* The number of a set; l is sorted. */
static peri_status keep(peri_matcher *m, const gr_items *l, uint32_t *out, peri_error *err) {
    uint32_t h = l->n;
    peri_status st = grow_slots(m, err);
    if (st) return st;
    for (uint32_t i = 0; i < l->n; i++)
        h = mix(mix(h, l->item[i].op), l->item[i].after);
    uint32_t i = h & (m->n_slot - 1);
    for (; m->slot[i]; i = (i + 1) & (m->n_slot - 1)) {
        const gr_state *s = &m->state[m->slot[i] - 1];
        if (s->hash != h || s->n != l->n) continue;
        if (s->n && memcmp(m->pool.item + s->off, l->item, l->n * sizeof *l->item) != 0) continue;
        *out = m->slot[i] - 1;
        return PERI_OK;
    }
    if (peri_matcher_bytes(m) > MOST)
        return peri_fail(err, PERI_E_RANGE,
                         "grammar: it takes more than %d MB to follow what may come next",
                         MOST >> 20);
    gr_state *state = grown(m->state, m->n_state, &m->room_state, 1, sizeof *state);
    if (state) m->state = state;
    if (!state || !reserve(&m->pool, l->n)) return no_memory(err);
    if (l->n) memcpy(m->pool.item + m->pool.n, l->item, l->n * sizeof *l->item);
    m->state[m->n_state] = (gr_state){.off = m->pool.n, .n = l->n, .hash = h, .row = GR_NONE};
    m->pool.n += l->n;
    m->slot[i] = ++m->n_state;
    *out = m->n_state - 1;
    return PERI_OK;
}

/* ---- making a state -------------------------------------------------------------------------- */

static bool add_edge(peri_matcher *m, gr_local *l, gr_item to) {
    gr_edge *edge = grown(m->edge, m->n_edge, &m->room_edge, 1, sizeof *edge);
    if (!edge) return false;
    m->edge = edge;
    m->edge[m->n_edge] = (gr_edge){to, l->edge};
    l->edge = m->n_edge++;
    return true;
}

/* Where an item of this state's list is noted, or would be. */
static uint64_t *seen_at(const peri_matcher *m, uint64_t *table, uint32_t n, gr_item x) {
    uint32_t i = mix(mix(0, x.op), x.after) & (n - 1);
    for (; table[i] >> 32 == m->stamp; i = (i + 1) & (n - 1)) {
        gr_item y = m->todo.item[(uint32_t)table[i]];
        if (y.op == x.op && y.after == x.after) break;
    }
    return &table[i];
}

static peri_status grow_seen(peri_matcher *m, peri_error *err) {
    uint32_t n = m->n_seen * 2;
    uint64_t *table = peri_calloc(n, sizeof *table);
    if (!table) return no_memory(err);
    for (uint32_t i = 0; i < m->todo.n; i++)
        *seen_at(m, table, n, m->todo.item[i]) = (uint64_t)m->stamp << 32 | i;
    peri_free(m->seen);
    m->seen = table;
    m->n_seen = n;
    return PERI_OK;
}

static peri_status too_many(peri_error *err) {
    return peri_fail(err, PERI_E_RANGE,
                     "grammar: more than %d ways to go on at once; it is too ambiguous", MAX_TODO);
}

/* One more thing to do, unless it was on the list before. */
static peri_status add(peri_matcher *m, uint32_t op, uint32_t after, peri_error *err) {
    if (m->todo.n == MAX_TODO) return too_many(err);
    peri_status st = (size_t)m->todo.n * 2 >= m->n_seen ? grow_seen(m, err) : PERI_OK;
    if (st) return st;
    uint64_t *at = seen_at(m, m->seen, m->n_seen, (gr_item){op, after});
    if (*at >> 32 == m->stamp) return PERI_OK;
    *at = (uint64_t)m->stamp << 32 | m->todo.n;
    return push(&m->todo, (gr_item){op, after}) ? PERI_OK : no_memory(err);
}

static peri_status do_end(peri_matcher *m, uint32_t after, peri_error *err) {
    peri_status st = PERI_OK;
    if (after == 0) return add(m, GR_OP_ACCEPT, 0, err);
    if (after & GR_LOCAL) {
        gr_local *l = &m->local[after & ~GR_LOCAL];
        l->has_ended = true;
        for (uint32_t e = l->edge; e != GR_NONE && !st; e = m->edge[e].next)
            st = add(m, m->edge[e].to.op, m->edge[e].to.after, err);
        return st;
    }
    for (uint32_t i = 0; i < m->state[after].n && !st; i++) {
        gr_item x = m->pool.item[m->state[after].off + i];
        st = add(m, x.op, x.after, err);
    }
    return st;
}

static peri_status do_call(peri_matcher *m, const gr_op *op, uint32_t after, peri_error *err) {
    gr_local *l = &m->local[op->b];
    bool is_new = l->stamp != m->stamp;
    if (is_new) {
        *l = (gr_local){.stamp = m->stamp, .edge = GR_NONE};
        m->called[m->n_called++] = op->b;
    }
    if (!add_edge(m, l, (gr_item){op->a, after})) return no_memory(err);
    if (l->has_ended) return add(m, op->a, after, err);
    return is_new ? add(m, m->g->entry[op->b], GR_LOCAL | op->b, err) : PERI_OK;
}

static peri_status do_item(peri_matcher *m, gr_item x, peri_error *err) {
    const gr_op *op = &m->g->op[x.op];
    peri_status st;
    switch ((gr_op_kind)op->kind) {
    case GR_FORK:
        st = add(m, op->a, x.after, err);
        return st ? st : add(m, op->b, x.after, err);
    case GR_CALL:
        return do_call(m, op, x.after, err);
    case GR_END:
        return do_end(m, x.after, err);
    default:
        return push(&m->out, x) ? PERI_OK : no_memory(err);
    }
}

static uint32_t resolved(const peri_matcher *m, uint32_t after) {
    return after & GR_LOCAL ? m->local[after & ~GR_LOCAL].set : after;
}

/* What follows the calls of one rule, as a set.  Where a call was the last step of its rule, what
 * follows that rule stands in its place. */
static peri_status keep_local(peri_matcher *m, gr_local *l, peri_error *err) {
    gr_items *set = &m->todo; /* no longer needed for its first purpose */
    set->n = 0;
    for (uint32_t e = l->edge; e != GR_NONE; e = m->edge[e].next) {
        gr_item to = m->edge[e].to;
        bool ok = true;
        to.after = resolved(m, to.after);
        if (to.op != GR_OP_END)
            ok = push(set, to);
        else if (to.after == 0)
            ok = push(set, (gr_item){GR_OP_ACCEPT, 0});
        else
            for (uint32_t i = 0; i < m->state[to.after].n && ok; i++)
                ok = push(set, m->pool.item[m->state[to.after].off + i]);
        if (!ok) return no_memory(err);
        if (set->n > MAX_TODO) return too_many(err);
    }
    sort(set);
    return keep(m, set, &l->set, err);
}

static bool ranks_before(const void *user, uint32_t a, uint32_t b) {
    const uint32_t *rank = user;
    return rank[a] < rank[b];
}

static void begin_state(peri_matcher *m) {
    m->todo.n = m->out.n = m->n_edge = m->n_called = 0;
    if (++m->stamp) return;
    /* after 2^32 states: nothing may look as if it were of this one */
    memset(m->seen, 0, m->n_seen * sizeof *m->seen);
    memset(m->local, 0, m->g->n_rule * sizeof *m->local);
    m->stamp = 1;
}

/* From what is to do to the number of the state. */
static peri_status make_state(peri_matcher *m, peri_match *out, peri_error *err) {
    peri_status st = PERI_OK;
    for (uint32_t i = 0; i < m->todo.n && !st; i++)
        st = do_item(m, m->todo.item[i], err);
    if (!st && m->n_called > 1 && peri_sort_index(m->called, m->n_called, ranks_before, m->g->rank))
        st = no_memory(err);
    for (uint32_t i = 0; i < m->n_called && !st; i++)
        st = keep_local(m, &m->local[m->called[i]], err);
    if (st) return st;
    for (uint32_t i = 0; i < m->out.n; i++)
        m->out.item[i].after = resolved(m, m->out.item[i].after);
    sort(&m->out);
    return keep(m, &m->out, out, err);
}

/* ---- one byte -------------------------------------------------------------------------------- */

peri_status peri_matcher_arm(peri_matcher *m, peri_match *out, peri_error *err) {
    *out = PERI_MATCH_DEAD;
    if (m->start == GR_NONE) {
        begin_state(m);
        peri_status st = add(m, m->g->entry[m->g->root], 0, err);
        if (!st) st = make_state(m, &m->start, err);
        if (st) {
            m->start = GR_NONE;
            return st;
        }
    }
    *out = m->start;
    return PERI_OK;
}

static uint32_t child_of(const peri_matcher *m, uint32_t node, uint8_t byte) {
    uint32_t c = m->trigger[node].child;
    while (c && m->trigger[c].byte != byte)
        c = m->trigger[c].sibling;
    return c;
}

static uint32_t trigger_step(const peri_matcher *m, uint32_t node, uint8_t byte) {
    uint32_t c;
    while (!(c = child_of(m, node, byte)) && node)
        node = m->trigger[node].fail;
    return c;
}

static peri_status new_row(peri_matcher *m, peri_match state, peri_error *err) {
    size_t n = m->g->n_class;
    if (m->n_row == m->room_row) {
        uint32_t room = m->room_row ? m->room_row * 2 : 64;
        uint32_t *grown = peri_resize_array(m->row, (size_t)room * n, sizeof *grown);
        if (!grown) return no_memory(err);
        m->row = grown;
        m->room_row = room;
    }
    memset(m->row + m->n_row * n, 0xFF, n * sizeof *m->row);
    m->state[state].row = m->n_row++;
    return PERI_OK;
}

peri_status gr_step(peri_matcher *m, peri_match *state, uint8_t byte, peri_error *err) {
    if (*state & GR_LOCAL) {
        uint32_t node = trigger_step(m, *state & ~GR_LOCAL, byte);
        if (m->trigger[node].is_end) return peri_matcher_arm(m, state, err);
        *state = GR_LOCAL | node;
        return PERI_OK;
    }
    if (*state == PERI_MATCH_DEAD) return PERI_OK;
    peri_status st = m->state[*state].row == GR_NONE ? new_row(m, *state, err) : PERI_OK;
    if (st) return st;
    size_t at = (size_t)m->state[*state].row * m->g->n_class + m->g->class_of[byte];
    if (m->row[at] == GR_NONE) {
        begin_state(m);
        for (uint32_t i = 0; i < m->state[*state].n && !st; i++) {
            gr_item x = m->pool.item[m->state[*state].off + i];
            const gr_op *op = &m->g->op[x.op];
            if (gr_reads(m->g, op, byte)) st = add(m, op->a, x.after, err);
        }
        uint32_t made;
        if (!st) st = make_state(m, &made, err);
        if (st) return st;
        m->row[at] = made;
    }
    *state = m->row[at];
    return PERI_OK;
}

peri_status peri_matcher_feed(peri_matcher *m, peri_match *state, const char *text, size_t n,
                              peri_error *err) {
    for (size_t i = 0; i < n; i++) {
        uint32_t next = gr_known(m, *state, (uint8_t)text[i]);
        peri_status st = PERI_OK;
        if (next != GR_NONE)
            *state = next;
        else
            st = gr_step(m, state, (uint8_t)text[i], err);
        if (st) return st;
    }
    return PERI_OK;
}

peri_status peri_matcher_start(peri_matcher *m, peri_match *out, peri_error *err) {
    if (!m->n_trigger) return peri_matcher_arm(m, out, err);
    *out = GR_LOCAL;
    return PERI_OK;
}

bool peri_match_is_waiting(peri_match state) {
    return state & GR_LOCAL;
}

bool peri_matcher_may_end(const peri_matcher *m, peri_match state) {
    if (state & GR_LOCAL) return true;
    const gr_state *s = &m->state[state];
    return s->n && m->pool.item[s->off].op == GR_OP_ACCEPT;
}

uint64_t peri_matcher_age(const peri_matcher *m) {
    return m->age;
}

/* ---- life ------------------------------------------------------------------------------------ */

static peri_status forget(peri_matcher *m, peri_error *err) {
    uint32_t dead;
    m->n_state = m->n_row = m->pool.n = 0;
    m->start = GR_NONE;
    m->age++;
    if (m->slot) memset(m->slot, 0, m->n_slot * sizeof *m->slot);
    return keep(m, &(gr_items){0}, &dead, err); /* the empty set is number 0 */
}

void peri_matcher_tidy(peri_matcher *m, size_t most) {
    if (peri_matcher_bytes(m) > most) forget(m, NULL); /* there is room for one state */
}

static uint32_t add_trigger_byte(peri_matcher *m, uint32_t node, uint8_t byte) {
    uint32_t c = child_of(m, node, byte);
    if (c) return c;
    c = m->n_trigger++;
    m->trigger[c] = (gr_trigger){.byte = byte, .sibling = m->trigger[node].child};
    m->trigger[node].child = c;
    return c;
}

/* Where to go on when a node has no child for a byte; nodes in the order of their depth. */
static void link_triggers(peri_matcher *m, uint32_t *order) {
    uint32_t n = 1;
    order[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t c = m->trigger[order[i]].child; c; c = m->trigger[c].sibling) {
            order[n++] = c;
            if (i)
                m->trigger[c].fail = trigger_step(m, m->trigger[order[i]].fail, m->trigger[c].byte);
            if (m->trigger[m->trigger[c].fail].is_end) m->trigger[c].is_end = true;
        }
}

static peri_status add_triggers(peri_matcher *m, const char *const *text, size_t n,
                                peri_error *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        bytes += strlen(text[i]);
        if (!*text[i]) return peri_fail(err, PERI_E_INVALID, "grammar: an empty trigger");
    }
    if (n > PERI_GRAMMAR_TRIGGERS || bytes > PERI_GRAMMAR_TRIGGER_BYTES)
        return peri_fail(err, PERI_E_RANGE,
                         "grammar: %zu triggers of %zu bytes, at most %d of %d together", n, bytes,
                         PERI_GRAMMAR_TRIGGERS, PERI_GRAMMAR_TRIGGER_BYTES);
    m->trigger = peri_calloc(bytes + 1, sizeof *m->trigger);
    uint32_t *order = peri_alloc_array(bytes + 1, sizeof *order);
    m->n_trigger = 1;
    for (size_t i = 0; i < n && m->trigger && order; i++) {
        uint32_t node = 0;
        for (const char *c = text[i]; *c; c++)
            node = add_trigger_byte(m, node, (uint8_t)*c);
        m->trigger[node].is_end = true;
    }
    bool ok = m->trigger && order;
    if (ok) link_triggers(m, order);
    peri_free(order);
    return ok ? PERI_OK : no_memory(err);
}

peri_status peri_matcher_new(peri_grammar *g, const char *const *trigger, size_t n_trigger,
                             peri_matcher **out, peri_error *err) {
    *out = NULL;
    peri_matcher *m = peri_calloc(1, sizeof *m);
    if (!m) return no_memory(err);
    m->g = peri_grammar_hold(g);
    m->n_seen = 64;
    m->seen = peri_calloc(m->n_seen, sizeof *m->seen);
    m->local = peri_calloc(g->n_rule, sizeof *m->local);
    m->called = peri_alloc_array(g->n_rule, sizeof *m->called);
    peri_status st = m->seen && m->local && m->called ? forget(m, err) : no_memory(err);
    if (!st && n_trigger) st = add_triggers(m, trigger, n_trigger, err);
    if (st)
        peri_matcher_free(m);
    else
        *out = m;
    return st;
}

void peri_matcher_free(peri_matcher *m) {
    if (!m) return;
    peri_grammar_free(m->g);
    peri_free(m->pool.item);
    peri_free(m->state);
    peri_free(m->slot);
    peri_free(m->row);
    peri_free(m->trigger);
    peri_free(m->todo.item);
    peri_free(m->out.item);
    peri_free(m->local);
    peri_free(m->called);
    peri_free(m->edge);
    peri_free(m->seen);
    peri_free(m);
}
