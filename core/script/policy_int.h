/* SPDX-License-Identifier: MIT
 *
 * policy_int.h - shared by the files behind sampling policies. */
#ifndef PERI_SCRIPT_POLICY_INT_H
#define PERI_SCRIPT_POLICY_INT_H

#include "base/text.h"
#include "run/policy.h"
#include "script/lua_policy.h"
#include "script/sandbox_int.h"

/* ---- lua_candidates.c: what a policy is handed ------------------------------------------------
 */

/* The one such object of a state; v is NULL outside of a call. */
typedef struct candidates {
    peri_policy_view *v;
    bool has_picked;
    peri_text text;
} candidates;
candidates *candidates_push(lua_State *L);

/* ---- lua_policy_load.c ------------------------------------------------------------------------
 */

/* A policy in its state: a list with these entries. */
enum {
    POLICY_CHOOSE = 1,   /* the function */
    POLICY_SETTINGS = 2, /* a read-only table */
    POLICY_INITIAL = 3,  /* the bytes of the state that a session begins with */
    POLICY_WATCHED = 4   /* list of function, number of an upvalue, its value: must not change */
};
/* Push such a list for the chunk; leaves by lua_error with file and line in the text. */
void policy_load(lua_State *L, const peri_policy_text *p);
/* Raise "FILE:LINE: text" with the line where the function at idx begins. */
_Noreturn void policy_fail(lua_State *L, int idx, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Did an upvalue on the list at idx change?  All are put back.  The name of the first, or NULL. */
const char *policy_put_back(lua_State *L, int idx);

#endif
