/* SPDX-License-Identifier: MIT
 *
 * lua_pattern.c - see lua_pattern.h.
 *
 * A pattern becomes a list of items: one character (of a kind) with its repetition, or a capture
 * border, %b, %f, a back reference, the end anchor, the end.  Matching backtracks by recursion,
 * whose depth the number of items bounds (MAX_DEPTH as in the stock library); its time nothing
 * bounds but the deadline, so every step looks at it. */
#include <string.h>

#include "script/lua_pattern.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

enum { MAX_DEPTH = 200 };

enum {
    ITEM_END,
    ITEM_ANY,
    ITEM_CHAR,  /* a */
    ITEM_CLASS, /* %a */
    ITEM_SET,
    ITEM_OPEN,
    ITEM_OPEN_POSITION,
    ITEM_CLOSE,
    ITEM_BACK,    /* %a, a digit */
    ITEM_BALANCE, /* %b a b */
    ITEM_FRONTIER,
    ITEM_LAST, /* $ */
    ITEM_BAD   /* message in set */
};

enum { BAD_PERCENT, BAD_SET, BAD_BALANCE, BAD_FRONTIER };
static const char *const bad_message[] = {
    "malformed pattern (ends with '%')",
    "malformed pattern (missing ']')",
    "malformed pattern (missing arguments to '%b')",
    "missing '[' after '%f' in pattern",
};

/* ---- character classes: those of the C locale, whatever locale the program has set --------- */

static bool is_letter(unsigned c) {
    return (c | 32) - 'a' < 26;
}

static bool is_digit(unsigned c) {
    return c - '0' < 10;
}

static bool in_class(unsigned c, unsigned name) {
    bool yes;
    switch (name | 32) {
    case 'a':
        yes = is_letter(c);
        break;
    case 'c':
        yes = c < 32 || c == 127;
        break;
    case 'd':
        yes = is_digit(c);
        break;
    case 'g':
        yes = c > 32 && c < 127;
        break;
    case 'l':
        yes = c - 'a' < 26;
        break;
    case 'p':
        yes = c > 32 && c < 127 && !is_letter(c) && !is_digit(c);
        break;
    case 's':
        yes = c == 32 || c - 9 < 5;
        break;
    case 'u':
        yes = c - 'A' < 26;
        break;
    case 'w':
        yes = is_letter(c) || is_digit(c);
        break;
    case 'x':
        yes = is_digit(c) || (c | 32) - 'a' < 6;
        break;
    case 'z':
        yes = c == 0;
        break; /* not in the manual any more, but still there */
    default:
        return name == c; /* an escaped character */
    }
    return (name & 32) != 0 ? yes : !yes;
}

static bool is_class(unsigned name) {
    return is_letter(name) && strchr("acdglpsuwxz", (int)(name | 32)) != NULL;
}

static bool in_set(const pat_set *set, unsigned c) {
    return set->bit[c / 32] >> (c % 32) & 1;
}

/* ---- compiling ----------------------------------------------------------------------------- */

typedef struct reader {
    const unsigned char *p, *end;
    pat *out;
    size_t n_item, n_set;
} reader;

/* Read a set after its '['; false when it has no end. */
static bool read_set(reader *r, pat_set *set) {
    const unsigned char *p = r->p, *last;
    bool is_not = p < r->end && *p == '^';
    if (is_not) p++;
    const unsigned char *q = p;
    do { /* the first character stands for itself, even ']' */
        if (q >= r->end) return false;
        if (*q++ == '%') q++;
    } while (q >= r->end || *q != ']');
    last = q;
    memset(set, 0, sizeof *set);
    while (p < last) {
        unsigned from = *p, to = *p;
        if (*p == '%') {
            from = p[1];
            p += 2;
            for (unsigned c = 0; c < 256; c++)
                if (in_class(c, from)) set->bit[c / 32] |= 1u << (c % 32);
            continue;
        }
        if (p + 2 < last && p[1] == '-') {
            to = p[2];
            p += 2;
        }
        p++;
        for (unsigned c = from; c <= to; c++)
            set->bit[c / 32] |= 1u << (c % 32);
    }
    for (int i = 0; is_not && i < 8; i++)
        set->bit[i] = ~set->bit[i];
    r->p = last + 1;
    return true;
}

static pat_item set_item(reader *r, uint8_t kind) {
    uint32_t i = (uint32_t)r->n_set;
    if (!read_set(r, &r->out->set[i])) {
        r->p = r->end;
        return (pat_item){.kind = ITEM_BAD, .set = BAD_SET};
    }
    r->n_set++;
    return (pat_item){.kind = kind, .set = i};
}

static pat_item bad(reader *r, uint32_t message) {
    r->p = r->end;
    return (pat_item){.kind = ITEM_BAD, .set = message};
}

/* The item after '%'. */
static pat_item read_escape(reader *r) {
    if (r->p >= r->end) return bad(r, BAD_PERCENT);
    unsigned char c = *r->p++;
    if (c == 'b') {
        if (r->end - r->p < 2) return bad(r, BAD_BALANCE);
        r->p += 2;
        return (pat_item){.kind = ITEM_BALANCE, .a = r->p[-2], .b = r->p[-1]};
    }
    if (c == 'f') {
        if (r->p >= r->end || *r->p != '[') return bad(r, BAD_FRONTIER);
        r->p++;
        return set_item(r, ITEM_FRONTIER);
    }
    if (is_digit(c)) return (pat_item){.kind = ITEM_BACK, .a = c};
    return (pat_item){.kind = is_class(c) ? ITEM_CLASS : ITEM_CHAR, .a = c};
}

static pat_item read_item(reader *r) {
    unsigned char c = *r->p++;
    switch (c) {
    case '(':
        if (r->p < r->end && *r->p == ')') {
            r->p++;
            return (pat_item){.kind = ITEM_OPEN_POSITION};
        }
        return (pat_item){.kind = ITEM_OPEN};
    case ')':
        return (pat_item){.kind = ITEM_CLOSE};
    case '.':
        return (pat_item){.kind = ITEM_ANY};
    case '[':
        return set_item(r, ITEM_SET);
    case '%':
        return read_escape(r);
    case '$':
        if (r->p == r->end) return (pat_item){.kind = ITEM_LAST};
        break;
    default:
        break;
    }
    return (pat_item){.kind = ITEM_CHAR, .a = c};
}

void pat_compile(lua_State *L, pat *p, const char *text, size_t size) {
    size_t n_set = 0;
    for (size_t i = 0; i < size; i++)
        n_set += text[i] == '[';
    p->item = p->first_item;
    p->set = p->first_set;
    if (size >= PAT_FIRST_ITEMS || n_set > PAT_FIRST_SETS) {
        if (size > SIZE_MAX / 64) luaL_error(L, "pattern too long");
        p->set = lua_newuserdatauv(L, n_set * sizeof *p->set + (size + 1) * sizeof *p->item, 0);
        p->item = (pat_item *)(p->set + n_set);
    } else {
        lua_pushnil(L);
    }
    const unsigned char *at = (const unsigned char *)text;
    reader r = {.p = at, .end = at + size, .out = p};
    while (r.p < r.end) {
        pat_item item = read_item(&r);
        if (item.kind >= ITEM_ANY && item.kind <= ITEM_SET && r.p < r.end &&
            memchr("*+-?", *r.p, 4) != NULL)
            item.repeat = *r.p++;
        p->item[r.n_item++] = item;
    }
    p->item[r.n_item] = (pat_item){.kind = ITEM_END};
}

/* ---- matching ------------------------------------------------------------------------------ */

static const char *match(pat_match *m, const char *s, const pat_item *it);

static bool is_one(const pat_match *m, const char *s, const pat_item *it) {
    if (s >= m->end) return false;
    unsigned c = (unsigned char)*s;
    switch (it->kind) {
    case ITEM_ANY:
        return true;
    case ITEM_CHAR:
        return c == it->a;
    case ITEM_CLASS:
        return in_class(c, it->a);
    default:
        return in_set(&m->p->set[it->set], c);
    }
}

/* As many as possible, then fewer. */
static const char *match_most(pat_match *m, const char *s, const pat_item *it) {
    const char *least = s;
    while (is_one(m, s, it))
        s++;
    for (;; s--) {
        const char *e = match(m, s, it + 1);
        if (e != NULL) return e;
        if (s == least) return NULL;
    }
}

static const char *match_least(pat_match *m, const char *s, const pat_item *it) {
    for (;; s++) {
        const char *e = match(m, s, it + 1);
        if (e != NULL || !is_one(m, s, it)) return e;
    }
}

static const char *match_open(pat_match *m, const char *s, const pat_item *it) {
    if (m->n_capture >= PAT_MAX_CAPTURE) luaL_error(m->L, "too many captures");
    m->capture[m->n_capture].at = s;
    m->capture[m->n_capture].size = it->kind == ITEM_OPEN ? PAT_UNFINISHED : PAT_POSITION;
    m->n_capture++;
    const char *e = match(m, s, it + 1);
    if (e == NULL) m->n_capture--;
    return e;
}

static const char *match_close(pat_match *m, const char *s, const pat_item *it) {
    int i = m->n_capture - 1;
    while (i >= 0 && m->capture[i].size != PAT_UNFINISHED)
        i--;
    if (i < 0) luaL_error(m->L, "invalid pattern capture");
    m->capture[i].size = s - m->capture[i].at;
    const char *e = match(m, s, it + 1);
    if (e == NULL) m->capture[i].size = PAT_UNFINISHED;
    return e;
}

static const char *match_balance(const pat_match *m, const char *s, const pat_item *it) {
    size_t level = 1;
    if (s >= m->end || (unsigned char)*s != it->a) return NULL;
    for (s++; s < m->end; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == it->b) {
            if (--level == 0) return s + 1;
        } else if (c == it->a) {
            level++;
        }
    }
    return NULL;
}

static const char *match_back(pat_match *m, const char *s, const pat_item *it) {
    int i = it->a - '1';
    if (i < 0 || i >= m->n_capture || m->capture[i].size == PAT_UNFINISHED)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    /* A position capture has no text: nothing is as long as (size_t)-2. */
    size_t size = (size_t)m->capture[i].size;
    if ((size_t)(m->end - s) < size || memcmp(m->capture[i].at, s, size) != 0) return NULL;
    return s + size;
}

static bool is_frontier(const pat_match *m, const char *s, const pat_item *it) {
    const pat_set *set = &m->p->set[it->set];
    unsigned before = s == m->begin ? 0 : (unsigned char)s[-1];
    unsigned now = s < m->end ? (unsigned char)*s : 0;
    return !in_set(set, before) && in_set(set, now);
}

/* One character with its repetition.  true: *s is moved past it, go on with the next item; false:
 * *s is the result. */
static bool match_one(pat_match *m, const char **s, const pat_item *it) {
    switch (it->repeat) {
    case 0:
        if (is_one(m, *s, it)) {
            ++*s;
            return true;
        }
        *s = NULL;
        return false;
    case '?':
        if (is_one(m, *s, it)) {
            const char *e = match(m, *s + 1, it + 1);
            if (e != NULL) {
                *s = e;
                return false;
            }
        }
        return true;
    case '-':
        *s = match_least(m, *s, it);
        return false;
    case '+':
        *s = is_one(m, *s, it) ? match_most(m, *s + 1, it) : NULL;
        return false;
    default:
        *s = match_most(m, *s, it);
        return false;
    }
}

/* An item that is no plain character.  As match_one. */
static bool match_other(pat_match *m, const char **s, const pat_item *it) {
    switch (it->kind) {
    case ITEM_END:
        return false;
    case ITEM_OPEN:
    case ITEM_OPEN_POSITION:
        *s = match_open(m, *s, it);
        return false;
    case ITEM_CLOSE:
        *s = match_close(m, *s, it);
        return false;
    case ITEM_BALANCE:
        *s = match_balance(m, *s, it);
        return *s != NULL;
    case ITEM_BACK:
        *s = match_back(m, *s, it);
        return *s != NULL;
    case ITEM_FRONTIER:
        if (is_frontier(m, *s, it)) return true;
        *s = NULL;
        return false;
    case ITEM_LAST:
        if (*s != m->end) *s = NULL;
        return false;
    default:
        luaL_error(m->L, "%s", bad_message[it->set]);
        return false;
    }
}

static const char *match(pat_match *m, const char *s, const pat_item *it) {
    if (m->depth-- == 0) luaL_error(m->L, "pattern too complex");
    for (;; it++) {
        if (m->owner->is_expired) lua_raise_expired(m->L);
        bool is_char = it->kind >= ITEM_ANY && it->kind <= ITEM_SET;
        if (!(is_char ? match_one(m, &s, it) : match_other(m, &s, it))) break;
    }
    m->depth++;
    return s;
}

void pat_match_init(pat_match *m, lua_State *L, const pat *p, const char *subject, size_t size) {
    m->L = L;
    m->owner = peri_lua_of(L);
    m->p = p;
    m->begin = subject;
    m->end = subject + size;
}

const char *pat_match_at(pat_match *m, const char *s) {
    m->n_capture = 0;
    m->depth = MAX_DEPTH;
    return match(m, s, m->p->item);
}

/* ---- captures ------------------------------------------------------------------------------ */

void pat_push_capture(pat_match *m, int i, const char *s, const char *e) {
    if (i >= m->n_capture) {
        if (i != 0) luaL_error(m->L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(m->L, s, (size_t)(e - s));
        return;
    }
    ptrdiff_t size = m->capture[i].size;
    if (size == PAT_UNFINISHED) luaL_error(m->L, "unfinished capture");
    if (size == PAT_POSITION)
        lua_pushinteger(m->L, m->capture[i].at - m->begin + 1);
    else
        lua_pushlstring(m->L, m->capture[i].at, (size_t)size);
}

int pat_push_captures(pat_match *m, const char *s, const char *e) {
    int n = m->n_capture == 0 && s != NULL ? 1 : m->n_capture;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++)
        pat_push_capture(m, i, s, e);
    return n;
}
