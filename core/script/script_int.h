/* SPDX-License-Identifier: MIT
 *
 * script_int.h - shared by the files that read architecture specs. */
#ifndef PERI_SCRIPT_INT_H
#define PERI_SCRIPT_INT_H

#include "model/arch.h"
#include "script/lua_state.h"

enum { SPEC_MAX_PARAM = 32 };

/* One reading.  All functions below run inside a protected call and leave by lua_error after
 * filling *err. */
typedef struct spec_ctx {
    lua_State *L;
    const peri_gguf *g;
    peri_arch *a;
    peri_error *err;
    peri_status status; /* set before lua_error; 0 means the error is Lua's own message */
    const char *script_dir;
    char path[512]; /* of the spec file being read */
    struct {
        const char *name;
        double value;
    } param[SPEC_MAX_PARAM]; /* the spec's own parameters */
    uint32_t n_param;
} spec_ctx;

/* "FILE: PLACE: formatted", PERI_E_CORRUPT; never returns. */
_Noreturn void spec_fail(spec_ctx *c, const char *place, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Pass on an error that a callee has written to c->err. */
_Noreturn void spec_raise(spec_ctx *c, peri_status st);

/* Push the value at idx with every layer- or model-dependent choice made for layer il: a string,
 * number, boolean or table. */
void spec_resolve(spec_ctx *c, int idx, int32_t il, const char *place);
/* The same as a number: literal, boolean (0 or 1), parameter name, or arithmetic of those. */
double spec_number(spec_ctx *c, int idx, int32_t il, const char *place);
/* Evaluate the spec's `params` table at idx into c->param and into the standard parameters it
 * overrides. */
void spec_read_params(spec_ctx *c, int idx);
/* Is the value at idx an expression node? */
bool spec_is_node(lua_State *L, int idx);
/* NUL-terminated copy in the arch's arena. */
const char *spec_keep(spec_ctx *c, const char *s);

#endif
