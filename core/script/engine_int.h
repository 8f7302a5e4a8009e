/* SPDX-License-Identifier: MIT
 *
 * engine_int.h - shared by the files behind perigee.sys.engine. */
#ifndef PERI_SCRIPT_ENGINE_INT_H
#define PERI_SCRIPT_ENGINE_INT_H

#include "base/text.h"
#include "script/models.h"

#define MODEL_CLASS   "perigee.model"
#define SESSION_CLASS "perigee.session"
#define STREAM_CLASS  "perigee.stream"
#define MARK_CLASS    "perigee.mark"
#define CALL_CLASS    "perigee.call"
#define BOX_CLASS     "perigee.box"

/* ---- lua_values.c: arguments and memory ---------------------------------------------------------
 */

/* Raise a caller's mistake with the place of the innermost user code, through whatever trusted code
 * lies between. */
_Noreturn void peri_lua_blame(lua_State *L, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

typedef enum value_kind { VALUE_INT, VALUE_FLAG, VALUE_TEXT } value_kind;
/* One known key of an option table.  VALUE_INT: int64_t between lo and hi; VALUE_FLAG: bool;
 * VALUE_TEXT: const char *, as long as the table lives. */
typedef struct value_key {
    const char *name;
    value_kind kind;
    size_t off;
    int64_t lo, hi;
} value_key;
/* The keys an option table may have, and what it belongs to ("generate"). */
typedef struct value_table {
    const char *what;
    const value_key *key;
    size_t n_key;
    const char *const *other; /* [n_other] keys that the caller reads */
    size_t n_other;
} value_table;
/* Read the table at idx (nil or none: nothing) over the defaults in *out.  Unknown keys and wrong
 * values are blamed on the caller: "generate: unknown key ...". */
void value_read(lua_State *L, int idx, const value_table *t, void *out);

/* Push a field of the table at idx; its type.  Raw, as everything that reads arguments: what a
 * metatable runs could close the very objects that the call is about. */
int value_push_field(lua_State *L, int idx, const char *name);

/* Heap memory that the garbage collector frees: push a box, let a callee fill it, push what is
 * wanted, pop the box. */
typedef struct value_box {
    void *heap; /* of peri_alloc */
    peri_text text;
} value_box;
value_box *value_push_box(lua_State *L);
/* Free the contents now. */
void value_empty_box(value_box *b);

/* Push a buffer with the integers of the list at idx; *n of them.  what names it in messages. */
int32_t *value_push_ids(lua_State *L, int idx, const char *what, size_t *n);
/* Push a buffer with pointers to the strings of the list (or the one string) at idx. */
const char **value_push_texts(lua_State *L, int idx, const char *what, size_t *n);
/* Push a new list of integers. */
void value_push_list(lua_State *L, const int32_t *id, size_t n);

/* Fill *p from the table at idx over the defaults of scripts for the model file g; seed when it
 * names none.  Pushes four values that hold what *p points to. */
void value_read_sampling(lua_State *L, int idx, const peri_gguf *g, uint64_t seed,
                         peri_sampling *p);

/* A class: metatable of that name with its own and the methods, closed to scripts. */
void value_new_class(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods);
void value_make_classes(lua_State *L);

/* ---- lua_engine.c -------------------------------------------------------------------------------
 */
typedef struct engine_host {
    peri_models *models;
    uint64_t seed;
} engine_host;
engine_host *engine_host_of(lua_State *L);
peri_shared *engine_check_model(lua_State *L, int idx);

int engine_locate(lua_State *L); /* lua_locate.c */

/* ---- lua_chain.c: engine.links, .link, .order, .policy, .check_policy
 * ----------------------------
 */
int engine_links(lua_State *L);
int engine_grammar(lua_State *L);
int engine_link(lua_State *L);
int engine_order(lua_State *L);
int engine_policy(lua_State *L);
int engine_check_policy(lua_State *L);

int engine_measure(lua_State *L); /* lua_measure.c */

/* ---- lua_session.c ------------------------------------------------------------------------------
 */
void session_make_classes(lua_State *L);
int session_open(lua_State *L);    /* model:session(sampling) */
int session_restore(lua_State *L); /* model:restore(path) */

#endif
