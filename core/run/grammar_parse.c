/* SPDX-License-Identifier: MIT
 *
 * grammar_parse.c - GBNF text to a tree of rules, with an error at the first character that does
 * not fit.  Recursion is as deep as groups are, which PERI_GRAMMAR_DEPTH bounds; everything else is
 * linear in the text. */
#include <stdio.h>
#include <string.h>

#include "base/sort.h"
#include "base/status.h"
#include "base/suggest.h"
#include "run/grammar_int.h"

#include "base/compiler.h"

typedef struct parser {
    gr_tree *t;
    const char *at, *end;
    int depth;
    peri_error *err;
} parser;

/* ---- places and errors ----------------------------------------------------------------------- */

uint32_t gr_line(const gr_tree *t, uint32_t at) {
    uint32_t line = 1;
    for (uint32_t i = 0; i < at; i++)
        line += t->text.data[i] == '\n';
    return line;
}

peri_status gr_fail(const gr_tree *t, uint32_t at, peri_error *err, peri_status code,
                    const char *fmt, ...) {
    uint32_t column = 1;
    va_list ap;
    va_start(ap, fmt);
    peri_vfail(err, code, fmt, ap);
    va_end(ap);
    for (uint32_t i = at; i > 0 && t->text.data[i - 1] != '\n'; i--)
        column += ((unsigned char)t->text.data[i - 1] & 0xC0) != 0x80;
    if (err) peri_wrap(err, "grammar: line %u, column %u", gr_line(t, at), column);
    return code;
}

static uint32_t place(const parser *p) {
    return (uint32_t)(p->at - p->t->text.data);
}

/* Bytes of the character at s, 0 when it is not well-formed; its code point. */
static size_t decode(const char *s, const char *end, uint32_t *cp) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char c = (unsigned char)*s;
    size_t n = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (!n || (size_t)(end - s) < n) return 0;
    *cp = n == 1 ? c : c & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (((unsigned char)s[i] & 0xC0) != 0x80) return 0;
        *cp = *cp << 6 | ((unsigned char)s[i] & 0x3F);
    }
    return *cp < least[n] || *cp > 0x10FFFF || (*cp >= 0xD800 && *cp < 0xE000) ? 0 : n;
}

/* "found X, expected ..." at the cursor. */
static peri_status unexpected(parser *p, const char *expected) {
    uint32_t cp;
    size_t n = p->at < p->end ? decode(p->at, p->end, &cp) : 0;
    if (p->at == p->end)
        return gr_fail(p->t, place(p), p->err, PERI_E_INVALID, "found the end, expected %s",
                       expected);
    if (*p->at == '\n' || *p->at == '\r')
        return gr_fail(p->t, place(p), p->err, PERI_E_INVALID,
                       "found the end of the line, expected %s", expected);
    if (!n)
        return gr_fail(p->t, place(p), p->err, PERI_E_INVALID,
                       "found byte 0x%02X, which is no UTF-8", (unsigned char)*p->at);
    return gr_fail(p->t, place(p), p->err, PERI_E_INVALID, "found \"%.*s\", expected %s", (int)n,
                   p->at, expected);
}

static peri_status no_memory(parser *p) {
    return peri_fail(p->err, PERI_E_NOMEM, "out of memory for a grammar");
}

/* ---- small things ---------------------------------------------------------------------------- */

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* Blanks and comments; and line ends, when they mean nothing here. */
static void skip(parser *p, bool lines) {
    while (p->at < p->end) {
        char c = *p->at;
        if (c == '#') {
            while (p->at < p->end && *p->at != '\n')
                p->at++;
        } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
            p->at++;
        } else {
            return;
        }
    }
}

static gr_node *new_node(parser *p, gr_kind kind) {
    gr_node *n = peri_arena_alloc(p->t->arena, 1, sizeof *n);
    if (!n) {
        no_memory(p);
        return NULL;
    }
    n->kind = kind;
    n->at = place(p);
    return n;
}

static void add_child(gr_node *parent, gr_node *child) {
    if (parent->kind == GR_SEQ) { /* built from its end */
        child->next = parent->first;
        parent->first = child;
        return;
    }
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
}

/* ---- rules by name --------------------------------------------------------------------------- */

static uint32_t hash_of(peri_str s) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < s.size; i++)
        h = (h ^ (unsigned char)s.data[i]) * 16777619u;
    return h ^ h >> 15;
}

/* Where the name is or would be. */
static uint32_t *slot_of(const gr_tree *t, peri_str name) {
    uint32_t i = hash_of(name) & (t->n_slot - 1);
    while (t->slot[i] && !peri_str_eq(t->rule[t->slot[i] - 1].name, name))
        i = (i + 1) & (t->n_slot - 1);
    return &t->slot[i];
}

/* The rule of a name, made when it is new. */
static peri_status intern_rule(parser *p, peri_str name, uint32_t at, uint32_t *out) {
    gr_tree *t = p->t;
    uint32_t *slot = slot_of(t, name);
    if (*slot) {
        *out = *slot - 1;
        return PERI_OK;
    }
    if (t->n_rule == PERI_GRAMMAR_RULES)
        return gr_fail(t, at, p->err, PERI_E_RANGE, "more than %d rules", PERI_GRAMMAR_RULES);
    if (t->n_rule == t->room_rule) {
        uint32_t room = t->room_rule ? t->room_rule * 2 : 32;
        gr_rule *grown = peri_resize_array(t->rule, room, sizeof *grown);
        if (!grown) return no_memory(p);
        t->rule = grown;
        t->room_rule = room;
    }
    t->rule[t->n_rule] = (gr_rule){.name = name, .at = at};
    *slot = ++t->n_rule;
    *out = t->n_rule - 1;
    return PERI_OK;
}

static peri_status parse_name(parser *p, uint32_t *rule) {
    const char *from = p->at;
    while (p->at < p->end && is_word(*p->at))
        p->at++;
    if (p->at == from) return unexpected(p, "the name of a rule");
    return intern_rule(p, (peri_str){from, (size_t)(p->at - from)},
                       (uint32_t)(from - p->t->text.data), rule);
}

/* ---- characters ------------------------------------------------------------------------------ */

static int digit_of(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static peri_status parse_hex(parser *p, int n, uint32_t *cp) {
    const char *from = p->at - 2;
    *cp = 0;
    for (int i = 0; i < n; i++, p->at++) {
        int d = p->at < p->end ? digit_of(*p->at) : -1;
        if (d < 0) return unexpected(p, "a hexadecimal digit");
        *cp = *cp << 4 | (uint32_t)d;
    }
    if (*cp <= 0x10FFFF && (*cp < 0xD800 || *cp >= 0xE000)) return PERI_OK;
    return gr_fail(p->t, (uint32_t)(from - p->t->text.data), p->err, PERI_E_INVALID,
                   "U+%04X is no character", *cp);
}

/* One character of a literal or class. */
static peri_status parse_char(parser *p, uint32_t *cp) {
    static const char from[] = "nrt\\\"[]", to[] = "\n\r\t\\\"[]";
    if (p->at == p->end || *p->at == '\n' || *p->at == '\r')
        return unexpected(p, "a character (a line end is written \\n)");
    if (*p->at != '\\') {
        size_t n = decode(p->at, p->end, cp);
        if (!n) return unexpected(p, "");
        p->at += n;
        return PERI_OK;
    }
    p->at++;
    char c = p->at < p->end ? *p->at : 0;
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) *cp = (unsigned char)to[simple - from];
    if (!simple && c != 'x' && c != 'u' && c != 'U')
        return unexpected(p, "one of n r t \\ \" [ ] x u U after \\");
    p->at++;
    return simple ? PERI_OK : parse_hex(p, c == 'x' ? 2 : c == 'u' ? 4 : 8, cp);
}

static size_t encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)(0xF00u >> n | cp);
    return n;
}

static peri_status parse_text(parser *p, gr_node **out) {
    gr_node *n = *out = new_node(p, GR_TEXT);
    const char *close = ++p->at;
    peri_status st = n ? PERI_OK : PERI_E_NOMEM;
    /* As long as the source at most: no escape is shorter than what it stands for. */
    while (close < p->end && *close != '"' && *close != '\n')
        close += *close == '\\' && close + 1 < p->end ? 2 : 1;
    char *bytes = st ? NULL : peri_arena_alloc(p->t->arena, (size_t)(close - p->at) + 4, 1);
    if (!st && !bytes) st = no_memory(p);
    size_t size = 0;
    while (!st && !(p->at < p->end && *p->at == '"')) {
        uint32_t cp = 0;
        if (p->at == p->end) return unexpected(p, "\" at the end of a literal");
        st = parse_char(p, &cp);
        if (!st) size += encode(cp, bytes + size);
    }
    p->at++;
    if (!st) n->text = (peri_str){bytes, size};
    return st;
}

/* ---- classes --------------------------------------------------------------------------------- */

static bool range_before(const void *user, uint32_t a, uint32_t b) {
    const gr_range *r = user;
    return r[a].lo < r[b].lo;
}

/* Rising and apart; the complement when asked for. */
static peri_status normalise(parser *p, gr_node *n, const gr_range *r, uint32_t n_range,
                             bool is_not) {
    uint32_t *order = peri_alloc_array(n_range, sizeof *order), k = 0, from = 0;
    gr_range *out = peri_arena_alloc(p->t->arena, (size_t)n_range + 2, sizeof *out);
    for (uint32_t i = 0; order && i < n_range; i++)
        order[i] = i;
    if (!order || !out || peri_sort_index(order, n_range, range_before, r)) {
        peri_free(order);
        return no_memory(p);
    }
    for (uint32_t i = 0; i < n_range; i++) {
        gr_range x = r[order[i]];
        if (k && x.lo <= out[k - 1].hi + 1)
            out[k - 1].hi = x.hi > out[k - 1].hi ? x.hi : out[k - 1].hi;
        else
            out[k++] = x;
    }
    peri_free(order);
    if (is_not) {
        uint32_t m = 0;
        for (uint32_t i = 0; i < k; i++) {
            gr_range x = out[i];
            if (x.lo > from) out[m++] = (gr_range){from, x.lo - 1};
            from = x.hi + 1;
        }
        if (from <= 0x10FFFF) out[m++] = (gr_range){from, 0x10FFFF};
        k = m;
    }
    n->range = out;
    n->n_range = k;
    return PERI_OK;
}

static peri_status parse_range(parser *p, gr_range *r) {
    const char *from = p->at;
    peri_status st = parse_char(p, &r->lo);
    r->hi = r->lo;
    if (st || p->end - p->at < 2 || p->at[0] != '-' || p->at[1] == ']') return st;
    p->at++;
    st = parse_char(p, &r->hi);
    if (!st && r->hi < r->lo)
        st = gr_fail(p->t, (uint32_t)(from - p->t->text.data), p->err, PERI_E_INVALID,
                     "the range from U+%04X to U+%04X is empty", r->lo, r->hi);
    return st;
}

static peri_status parse_class(parser *p, gr_node **out) {
    gr_node *n = *out = new_node(p, GR_CLASS);
    gr_range *r = NULL;
    uint32_t n_range = 0, room = 0;
    peri_status st = n ? PERI_OK : PERI_E_NOMEM;
    bool is_not = p->at + 1 < p->end && p->at[1] == '^';
    p->at += is_not ? 2 : 1;
    while (!st && !(p->at < p->end && *p->at == ']')) {
        if (p->at == p->end) st = unexpected(p, "] at the end of a class");
        if (!st && n_range == room) {
            gr_range *grown = peri_resize_array(r, room ? (size_t)room * 2 : 8, sizeof *r);
            if (!grown) st = no_memory(p);
            if (grown) {
                r = grown;
                room = room ? room * 2 : 8;
            }
        }
        if (!st) st = parse_range(p, &r[n_range]);
        n_range++;
    }
    if (!st && !n_range && !is_not) st = unexpected(p, "a character of the class");
    p->at++;
    if (!st) st = normalise(p, n, r, n_range, is_not);
    peri_free(r);
    return st;
}

/* ---- items, sequences, alternatives ---------------------------------------------------------- */

static peri_status parse_alternatives(parser *p, bool is_nested, gr_node **out);

static peri_status parse_group(parser *p, gr_node **out) {
    uint32_t from = place(p);
    if (p->depth == PERI_GRAMMAR_DEPTH)
        return gr_fail(p->t, from, p->err, PERI_E_RANGE, "more than %d groups inside one another",
                       PERI_GRAMMAR_DEPTH);
    p->depth++;
    p->at++;
    skip(p, true);
    peri_status st = parse_alternatives(p, true, out);
    p->depth--;
    if (st) return st;
    if (p->at == p->end || *p->at != ')') {
        uint32_t line = gr_line(p->t, from);
        char expected[64];
        snprintf(expected, sizeof expected, "an item, | or the ) of the ( in line %u", line);
        return unexpected(p, expected);
    }
    p->at++;
    return PERI_OK;
}

static peri_status parse_ref(parser *p, gr_node **out) {
    gr_node *n = *out = new_node(p, GR_REF);
    return n ? parse_name(p, &n->rule) : PERI_E_NOMEM;
}

static peri_status parse_any(parser *p, gr_node **out) {
    static const gr_range all = {0, 0x10FFFF};
    gr_node *n = *out = new_node(p, GR_CLASS);
    p->at++;
    if (!n) return PERI_E_NOMEM;
    n->range = &all;
    n->n_range = 1;
    return PERI_OK;
}

static peri_status parse_count(parser *p, int32_t *out) {
    uint32_t from = place(p);
    int64_t x = 0;
    if (p->at == p->end || *p->at < '0' || *p->at > '9') return unexpected(p, "a number");
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
        if (x <= GR_MAX_REPEAT) x = x * 10 + (*p->at - '0');
    if (x > GR_MAX_REPEAT)
        return gr_fail(p->t, from, p->err, PERI_E_RANGE, "a repetition of more than %d times",
                       GR_MAX_REPEAT);
    *out = (int32_t)x;
    return PERI_OK;
}

/* {m} {m,} {m,n} */
static peri_status parse_braces(parser *p, gr_node *n) {
    p->at++;
    skip(p, false);
    uint32_t from = place(p);
    peri_status st = parse_count(p, &n->min);
    n->max = n->min;
    skip(p, false);
    if (!st && p->at < p->end && *p->at == ',') {
        p->at++;
        skip(p, false);
        n->max = GR_FOREVER;
        if (!(p->at < p->end && *p->at == '}')) st = parse_count(p, &n->max);
        skip(p, false);
    }
    if (st) return st;
    if (n->max != GR_FOREVER && n->max < n->min)
        return gr_fail(p->t, from, p->err, PERI_E_INVALID, "a repetition of %d to %d times", n->min,
                       n->max);
    if (p->at == p->end || *p->at != '}') return unexpected(p, ", or }");
    p->at++;
    return PERI_OK;
}

/* The item, with what repeats it. */
static peri_status parse_repetition(parser *p, gr_node **item) {
    enum { MOST = 4 };
    for (int i = 0; p->at < p->end && *p->at && strchr("*+?{", *p->at); i++) {
        gr_node *n = new_node(p, GR_REPEAT);
        if (!n) return PERI_E_NOMEM;
        if (i == MOST)
            return gr_fail(p->t, n->at, p->err, PERI_E_RANGE,
                           "more than %d repetitions of one item", MOST);
        char c = *p->at;
        n->min = c == '+';
        n->max = c == '?' ? 1 : GR_FOREVER;
        if (c != '{') p->at++;
        peri_status st = c == '{' ? parse_braces(p, n) : PERI_OK;
        if (st) return st;
        add_child(n, *item);
        *item = n;
    }
    return PERI_OK;
}

static peri_status parse_sequence(parser *p, bool is_nested, gr_node **out) {
    gr_node *seq = *out = new_node(p, GR_SEQ);
    peri_status st = seq ? PERI_OK : PERI_E_NOMEM;
    while (!st && p->at < p->end) {
        char c = *p->at;
        gr_node *item = NULL;
        if (c == '"')
            st = parse_text(p, &item);
        else if (c == '[')
            st = parse_class(p, &item);
        else if (c == '(')
            st = parse_group(p, &item);
        else if (c == '.')
            st = parse_any(p, &item);
        else if (is_word(c))
            st = parse_ref(p, &item);
        else
            break;
        if (!st) st = parse_repetition(p, &item);
        if (st) return st;
        add_child(seq, item);
        skip(p, is_nested);
    }
    return st;
}

static peri_status parse_alternatives(parser *p, bool is_nested, gr_node **out) {
    gr_node *alt = *out = new_node(p, GR_ALT);
    if (!alt) return PERI_E_NOMEM;
    for (;;) {
        gr_node *seq;
        peri_status st = parse_sequence(p, is_nested, &seq);
        if (st) return st;
        add_child(alt, seq);
        const char *after = p->at;
        skip(p, true); /* a line may begin with | */
        if (p->at == p->end || *p->at != '|') {
            if (!is_nested) p->at = after;
            return PERI_OK;
        }
        p->at++;
        skip(p, true);
    }
}

static peri_status parse_rule(parser *p) {
    uint32_t at = place(p), rule;
    peri_status st = parse_name(p, &rule);
    if (st) return st;
    if (p->t->rule[rule].body)
        return gr_fail(p->t, at, p->err, PERI_E_INVALID,
                       "the rule \"%.*s\" is defined in line %u already",
                       PERI_STR_ARG(p->t->rule[rule].name), gr_line(p->t, p->t->rule[rule].at));
    skip(p, false);
    if (p->end - p->at < 3 || memcmp(p->at, "::=", 3) != 0) return unexpected(p, "::=");
    p->at += 3;
    skip(p, true);
    gr_node *body = NULL;
    st = parse_alternatives(p, false, &body);
    if (st) return st;
    p->t->rule[rule].body = body;
    p->t->rule[rule].at = at;
    if (p->at < p->end && *p->at != '\n' && *p->at != '\r')
        return unexpected(p, "a literal, a class, a name, ( or | or the end of the line");
    skip(p, true);
    return PERI_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static const char *nearest_rule(const gr_tree *t, const char *name, peri_arena *a) {
    const char **names = peri_arena_alloc(a, t->n_rule, sizeof *names);
    size_t n = 0;
    for (uint32_t i = 0; names && i < t->n_rule; i++)
        if (t->rule[i].body) names[n++] = peri_arena_str(a, t->rule[i].name).data;
    for (size_t i = 0; i < n; i++)
        if (!names[i]) return NULL;
    return n ? peri_nearest(name, names, n) : NULL;
}

static peri_status check_rules(parser *p) {
    gr_tree *t = p->t;
    for (uint32_t i = 0; i < t->n_rule; i++) {
        if (t->rule[i].body) continue;
        char name[64];
        snprintf(name, sizeof name, "%.*s", PERI_STR_ARG(t->rule[i].name));
        const char *near = nearest_rule(t, name, t->arena);
        return gr_fail(t, t->rule[i].at, p->err, PERI_E_INVALID,
                       "the rule \"%s\" is not defined%s%s%s", name, near ? "; did you mean " : "",
                       near ? near : "", near ? "?" : "");
    }
    uint32_t *slot = slot_of(t, PERI_STR("root"));
    if (!*slot)
        return peri_fail(p->err, PERI_E_INVALID,
                         "grammar: it has no rule \"root\", where a text begins");
    t->root = *slot - 1;
    return PERI_OK;
}

peri_status gr_parse(peri_str text, gr_tree *t, peri_error *err) {
    enum { SLOTS = PERI_GRAMMAR_RULES * 2 };
    if (!text.size) text = PERI_STR("");
    *t = (gr_tree){.text = text};
    parser p = {.t = t, .at = text.data, .end = text.data + text.size, .err = err};
    if (text.size > PERI_GRAMMAR_BYTES)
        return peri_fail(err, PERI_E_RANGE, "grammar: it has %zu bytes, at most %d", text.size,
                         PERI_GRAMMAR_BYTES);
    t->arena = peri_arena_new();
    t->n_slot = SLOTS;
    t->slot = peri_calloc(t->n_slot, sizeof *t->slot);
    peri_status st = t->arena && t->slot ? PERI_OK : no_memory(&p);
    if (!st) skip(&p, true);
    while (!st && p.at < p.end)
        st = parse_rule(&p);
    return st ? st : check_rules(&p);
}

void gr_tree_fini(gr_tree *t) {
    peri_arena_free(t->arena);
    peri_free(t->rule);
    peri_free(t->slot);
}
