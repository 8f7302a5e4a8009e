/* SPDX-License-Identifier: MIT
 *
 * lua_pattern.h - Lua patterns, compiled and matched, looking at the deadline at every step.
 *
 * Source: Lua 5.4 reference manual, section 6.4.1.  Malformed patterns raise where matching reaches
 * the malformed item, with the messages of the stock library. */
#ifndef PERI_SCRIPT_LUA_PATTERN_H
#define PERI_SCRIPT_LUA_PATTERN_H

#include "script/lua_sandbox.h"

enum { PAT_MAX_CAPTURE = 32, PAT_FIRST_ITEMS = 40, PAT_FIRST_SETS = 4 };

typedef struct pat_item {
    uint8_t kind, repeat; /* repeat: 0 * + - ? */
    uint8_t a, b;         /* characters */
    uint32_t set;         /* index of the set, or of the message of a malformed item */
} pat_item;

typedef struct pat_set {
    uint32_t bit[8]; /* byte c: bit[c / 32] >> (c % 32) */
} pat_set;

typedef struct pat {
    pat_item *item;
    pat_set *set;
    pat_item first_item[PAT_FIRST_ITEMS];
    pat_set first_set[PAT_FIRST_SETS];
} pat;

enum { PAT_UNFINISHED = -1, PAT_POSITION = -2 };

typedef struct pat_match {
    lua_State *L;
    const peri_lua *owner;
    const pat *p;
    const char *begin, *end; /* the subject */
    int depth;               /* levels of recursion left */
    int n_capture;
    struct {
        const char *at;
        ptrdiff_t size; /* or PAT_UNFINISHED, PAT_POSITION */
    } capture[PAT_MAX_CAPTURE];
} pat_match;

/* Compile; a long pattern leaves one userdata on the stack (nil otherwise), which must stay while p
 * is used.  p must not move. */
void pat_compile(lua_State *L, pat *p, const char *text, size_t size);
void pat_match_init(pat_match *m, lua_State *L, const pat *p, const char *subject, size_t size);
/* The end of a match that starts at s, or NULL. */
const char *pat_match_at(pat_match *m, const char *s);
/* Push capture i (from 0); with no captures, capture 0 is the match s..e. */
void pat_push_capture(pat_match *m, int i, const char *s, const char *e);
/* All of them (at least the whole match when s is not NULL); how many. */
int pat_push_captures(pat_match *m, const char *s, const char *e);

#endif
