/* SPDX-License-Identifier: MIT
 *
 * grammar_mask.c - which tokens may come next, in one walk over the vocabulary.
 *
 * The texts of all tokens stand in a tree of bytes, written depth first, so that a walk reads it
 * from front to back and jumps over what follows a byte that is not of the grammar.  The result of
 * a state is kept: as a list of ids where few are allowed, else as bits. */
#include <string.h>

#include "base/status.h"
#include "run/grammar_int.h"

#include "base/compiler.h"

enum {
    MASK_BYTES = 48 << 20, /* kept at most */
    LIST_PART = 64         /* a list, when at most one of so many tokens is allowed */
};

typedef struct node {
    uint32_t end;   /* the first node that is not below this one */
    uint32_t token; /* its own are token[] from here up to the next node's */
    uint32_t depth; /* bytes before this one's */
    uint8_t byte;
} node;

typedef struct kept {
    struct kept *next;
    peri_match state;
    peri_token_mask mask; /* what it points to follows */
} kept;
enum { N_SLOT = 1 << 10 };

struct peri_token_tree {
    int32_t n_vocab;
    node *node; /* [n_node + 1], the last one for its token */
    uint32_t n_node, room_node;
    int32_t *token; /* [n_token] ids */
    uint32_t n_token, max_text;
    uint32_t *other; /* bits: tokens without text, and those that end the text */
    uint32_t *ends;  /* bits: those that end it */
    uint32_t n_word;
};

struct peri_masks {
    peri_matcher *m;
    const peri_token_tree *t;
    uint64_t age;     /* of m when the masks were made */
    peri_match *path; /* [longest text + 1] states on the way down */
    uint32_t *bit;    /* [n_word] under way */
    kept *slot[N_SLOT];
    size_t bytes;
};

static peri_status no_memory(peri_error *err) {
    return peri_fail(err, PERI_E_NOMEM, "out of memory for the tokens that a grammar allows");
}

static void set_bit(uint32_t *bit, uint32_t i) {
    bit[i / 32] |= 1u << i % 32;
}

/* ---- the tree -------------------------------------------------------------------------------- */

static bool add_node(peri_token_tree *k, node x) {
    if (k->n_node == k->room_node) {
        uint32_t room = k->room_node ? k->room_node * 2 : 1024;
        node *grown = peri_resize_array(k->node, room, sizeof *grown);
        if (!grown) return false;
        k->node = grown;
        k->room_node = room;
    }
    k->node[k->n_node++] = x;
    return true;
}

static size_t common(peri_str a, peri_str b) {
    size_t n = 0;
    while (n < a.size && n < b.size && a.data[n] == b.data[n])
        n++;
    return n;
}

/* way[]: the nodes of the text before, by depth; their subtrees end where a text leaves them. */
static bool add_text(peri_token_tree *k, uint32_t *way, peri_str before, peri_str text) {
    size_t same = common(before, text);
    for (size_t d = same; d < before.size; d++)
        k->node[way[d]].end = k->n_node;
    for (size_t d = same; d < text.size; d++) {
        way[d] = k->n_node;
        if (!add_node(
                k,
                (node){.token = k->n_token, .depth = (uint32_t)d, .byte = (uint8_t)text.data[d]}))
            return false;
    }
    return true;
}

static peri_status build_tree(peri_token_tree *k, const peri_token_table *t, peri_error *err) {
    uint32_t *way = peri_alloc_array((size_t)t->max_text + 1, sizeof *way);
    peri_str before = {"", 0};
    bool ok = way != NULL;
    for (uint32_t i = 0; i < t->n_id && ok; i++) {
        int32_t id = (int32_t)t->id[i];
        if (k->ends[id / 32] >> id % 32 & 1) continue;
        peri_str text = peri_token_table_text(t, id);
        ok = add_text(k, way, before, text);
        k->token[k->n_token++] = id;
        before = text;
    }
    for (size_t d = 0; d < before.size && ok; d++)
        k->node[way[d]].end = k->n_node;
    if (ok) ok = add_node(k, (node){.token = k->n_token});
    if (ok) k->n_node--;
    peri_free(way);
    return ok ? PERI_OK : no_memory(err);
}

static void list_others(peri_token_tree *k, const peri_token_table *t) {
    for (int32_t id = 0; id < k->n_vocab; id++) {
        bool is_end = peri_token_is_eog(t->tokenizer, id);
        if (is_end) set_bit(k->ends, (uint32_t)id);
        if (is_end || !peri_token_table_text(t, id).size) set_bit(k->other, (uint32_t)id);
    }
}

peri_status peri_token_tree_new(const peri_token_table *t, peri_token_tree **out, peri_error *err) {
    *out = NULL;
    peri_token_tree *k = peri_calloc(1, sizeof *k);
    if (!k) return no_memory(err);
    k->n_vocab = t->n_vocab;
    k->max_text = t->max_text;
    k->n_word = ((uint32_t)t->n_vocab + 31) / 32;
    k->other = peri_calloc(k->n_word, sizeof *k->other);
    k->ends = peri_calloc(k->n_word, sizeof *k->ends);
    k->token = peri_alloc_array((size_t)t->n_id + 1, sizeof *k->token);
    peri_status st = k->other && k->ends && k->token ? PERI_OK : no_memory(err);
    if (!st) {
        list_others(k, t);
        st = build_tree(k, t, err);
    }
    if (st)
        peri_token_tree_free(k);
    else
        *out = k;
    return st;
}

void peri_token_tree_free(peri_token_tree *k) {
    if (!k) return;
    peri_free(k->node);
    peri_free(k->token);
    peri_free(k->other);
    peri_free(k->ends);
    peri_free(k);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void drop_masks(peri_masks *k) {
    for (uint32_t i = 0; i < N_SLOT; i++)
        while (k->slot[i]) {
            kept *gone = k->slot[i];
            k->slot[i] = gone->next;
            peri_free(gone);
        }
    k->bytes = 0;
}

peri_status peri_masks_new(peri_matcher *m, const peri_token_tree *t, peri_masks **out,
                           peri_error *err) {
    *out = NULL;
    peri_masks *k = peri_calloc(1, sizeof *k);
    if (!k) return no_memory(err);
    k->m = m;
    k->t = t;
    k->age = peri_matcher_age(m);
    k->bit = peri_calloc(t->n_word, sizeof *k->bit);
    k->path = peri_calloc((size_t)t->max_text + 1, sizeof *k->path);
    if (!k->bit || !k->path) {
        peri_masks_free(k);
        return no_memory(err);
    }
    *out = k;
    return PERI_OK;
}

void peri_masks_free(peri_masks *k) {
    if (!k) return;
    drop_masks(k);
    peri_free(k->path);
    peri_free(k->bit);
    peri_free(k);
}

/* ---- one mask -------------------------------------------------------------------------------- */

/* Bits of the tokens with text that may follow. */
static peri_status walk(peri_masks *k, peri_match state, peri_error *err) {
    k->path[0] = state;
    for (uint32_t i = 0; i < k->t->n_node;) {
        const node *x = &k->t->node[i];
        peri_match from = k->path[x->depth], to = gr_known(k->m, from, x->byte);
        if (to == GR_NONE) {
            peri_status st = gr_step(k->m, &from, x->byte, err);
            if (st) return st;
            to = from;
        }
        if (to == PERI_MATCH_DEAD) {
            i = x->end;
            continue;
        }
        for (uint32_t j = x->token; j < x[1].token; j++)
            set_bit(k->bit, (uint32_t)k->t->token[j]);
        k->path[x->depth + 1] = to;
        i++;
    }
    return PERI_OK;
}

static peri_status keep_mask(peri_masks *k, peri_match state, bool may_end, kept **out,
                             peri_error *err) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->t->n_word; i++)
        n += (uint32_t)__builtin_popcount(k->bit[i]);
    bool is_list = n <= (uint32_t)k->t->n_vocab / LIST_PART;
    size_t bytes = sizeof(kept) + (is_list ? n : k->t->n_word) * sizeof(uint32_t);
    if (k->bytes + bytes > MASK_BYTES) drop_masks(k);
    kept *x = *out = peri_alloc(bytes);
    if (!x) return no_memory(err);
    uint32_t *data = (uint32_t *)(void *)(x + 1);
    *x = (kept){
        .next = k->slot[state % N_SLOT], .state = state, .mask = {.n = n, .may_end = may_end}};
    if (is_list) {
        int32_t *id = (int32_t *)(void *)(x + 1);
        x->mask.id = id;
        for (uint32_t i = 0; i < k->t->n_word; i++)
            for (uint32_t w = k->bit[i]; w; w &= w - 1)
                *id++ = (int32_t)(i * 32 + (uint32_t)__builtin_ctz(w));
    } else {
        x->mask.bit = data;
        memcpy(data, k->bit, k->t->n_word * sizeof *data);
    }
    k->slot[state % N_SLOT] = x;
    k->bytes += bytes;
    return PERI_OK;
}

peri_status peri_masks_get(peri_masks *k, peri_match state, peri_token_mask *out, peri_error *err) {
    if (k->age != peri_matcher_age(k->m)) drop_masks(k);
    k->age = peri_matcher_age(k->m);
    kept *x = k->slot[state % N_SLOT];
    while (x && x->state != state)
        x = x->next;
    if (!x) {
        bool may_end = peri_matcher_may_end(k->m, state);
        memset(k->bit, 0, k->t->n_word * sizeof *k->bit);
        peri_status st = walk(k, state, err);
        const uint32_t *more = peri_match_is_waiting(state) ? k->t->other
                               : may_end                    ? k->t->ends
                                                            : NULL;
        for (uint32_t i = 0; more && i < k->t->n_word; i++)
            k->bit[i] |= more[i];
        if (!st) st = keep_mask(k, state, may_end, &x, err);
        if (st) return st;
    }
    *out = x->mask;
    return PERI_OK;
}
