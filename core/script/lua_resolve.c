/* SPDX-License-Identifier: MIT
 *
 * lua_resolve.c - the values of a spec: expression nodes, parameters and keys of the model file
 * become plain numbers and strings, one layer at a time. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/status.h"
#include "script/script_int.h"

/* Keys whose stored 0 means "not given".  Source: converters write them for every family. */
static const char *const zero_is_absent[] = {"attention.scale", "embedding_scale", "residual_scale",
                                             "expert_weights_scale", "rope.scaling.factor"};

static void full_key(spec_ctx *c, const char *key, char buf[192], const char *place) {
    int n = snprintf(buf, 192, "%s.%s", c->a->name, key);
    if (n < 0 || n >= 192) spec_fail(c, place, "key \"%s\" is too long", key);
}

/* The file's value of a key of the spec, or NULL. */
static const peri_gguf_value *find_key(spec_ctx *c, const char *key, const char *place) {
    char full[192];
    full_key(c, key, full, place);
    const peri_gguf_value *v = peri_gguf_find(c->g, full);
    if (v) {
        peri_status st = peri_arch_note_key(c->a, full, c->err);
        if (st) spec_raise(c, st);
    }
    return v;
}

static double key_number(spec_ctx *c, const peri_gguf_value *v) {
    double x;
    if (v->is_array || !peri_gguf_as_f64(v, 0, &x) || !isfinite(x))
        spec_raise(c, peri_gguf_fail_key(c->g, v, c->err, "expected one finite number"));
    return x;
}

/* The same for a parameter: scales, caps and bases are never negative. */
static double param_key(spec_ctx *c, const peri_gguf_value *v) {
    double x = key_number(c, v);
    if (x < 0)
        spec_raise(c, peri_gguf_fail_key(c->g, v, c->err, "found %.9g, expected 0 or more", x));
    return x;
}

bool spec_is_node(lua_State *L, int idx) {
    if (!lua_istable(L, idx) || !lua_getmetatable(L, idx)) return false;
    luaL_getmetatable(L, "perigee.spec.node");
    bool is_node = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is_node;
}

/* Argument i of the node at idx as an integer: a number or a parameter. */
static int64_t node_int(spec_ctx *c, int idx, int i, const char *place) {
    lua_rawgeti(c->L, idx, i);
    double x = spec_number(c, lua_gettop(c->L), 0, place);
    lua_pop(c->L, 1);
    return (int64_t)x;
}

static const char *node_str(spec_ctx *c, int idx, int i, const char *place) {
    lua_rawgeti(c->L, idx, i);
    if (lua_type(c->L, -1) != LUA_TSTRING) spec_fail(c, place, "expected a key or tensor name");
    const char *s = lua_tostring(c->L, -1); /* stays alive: the node holds it */
    lua_pop(c->L, 1);
    return s;
}

static bool has_tensor(spec_ctx *c, const char *stem, int32_t il, const char *place) {
    char name[160];
    int n = snprintf(name, sizeof name, "blk.%d.%s.weight", il, stem);
    if (n < 0 || (size_t)n >= sizeof name)
        spec_fail(c, place, "tensor name \"%s\" is too long", stem);
    return peri_gguf_find_tensor(c->g, name) != NULL;
}

/* Is the pattern set on layer il?  An array speaks for itself; a period p clears the last of each p
 * layers; 0 sets all. */
static bool pattern_is_set(spec_ctx *c, int idx, int32_t il, const char *place) {
    const char *key = node_str(c, idx, 1, place);
    int64_t period = node_int(c, idx, 2, place);
    const peri_gguf_value *v = find_key(c, key, place);
    if (v && v->is_array) {
        int64_t x;
        if (v->n != (uint64_t)c->a->n_layer)
            spec_raise(c, peri_gguf_fail_key(c->g, v, c->err,
                                             "array of %llu values, expected one per layer (%d)",
                                             (unsigned long long)v->n, c->a->n_layer));
        if (!peri_gguf_as_i64(v, (uint64_t)il, &x))
            spec_raise(c, peri_gguf_fail_key(c->g, v, c->err, "expected booleans"));
        return x != 0;
    }
    if (v) period = (int64_t)key_number(c, v);
    if (period < 0 || period > 4096)
        spec_fail(c, place, "period %lld of key %s", (long long)period, key);
    return period == 0 || il % period < period - 1;
}

/* Push map[value of key] or the third argument. */
static void push_pick(spec_ctx *c, int idx, const char *place) {
    lua_State *L = c->L;
    const char *key = node_str(c, idx, 1, place);
    const peri_gguf_value *v = find_key(c, key, place);
    peri_str s;
    lua_rawgeti(L, idx, 2);
    if (!lua_istable(L, -1))
        spec_fail(c, place, "pick(\"%s\", ...): expected a table of values", key);
    if (v && peri_gguf_as_str(v, 0, &s)) {
        lua_pushlstring(L, s.data, s.size);
        lua_rawget(L, -2);
    } else if (v) {
        double x = key_number(c, v);
        lua_pushnumber(L, x);
        if (x == floor(x)) {
            lua_pop(L, 1);
            lua_pushinteger(L, (lua_Integer)x);
        }
        lua_rawget(L, -2);
    } else {
        lua_pushnil(L);
    }
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_rawgeti(L, idx, 3);
    }
    lua_remove(L, -2);
}

/* Push the branch a choosing node takes on layer il; false for an arithmetic node. */
static bool push_choice(spec_ctx *c, int idx, const char *op, int32_t il, const char *place) {
    lua_State *L = c->L;
    if (!strcmp(op, "every")) {
        int64_t n = node_int(c, idx, 1, place);
        if (n < 1) spec_fail(c, place, "every(%lld, ...): expected at least 1", (long long)n);
        lua_rawgeti(L, idx, (il + 1) % n == 0 ? 2 : 3);
    } else if (!strcmp(op, "first")) {
        lua_rawgeti(L, idx, il < node_int(c, idx, 1, place) ? 2 : 3);
    } else if (!strcmp(op, "pattern")) {
        lua_rawgeti(L, idx, pattern_is_set(c, idx, il, place) ? 3 : 4);
    } else if (!strcmp(op, "has")) {
        lua_rawgeti(L, idx, has_tensor(c, node_str(c, idx, 1, place), il, place) ? 2 : 3);
    } else if (!strcmp(op, "pick")) {
        push_pick(c, idx, place);
    } else {
        return false;
    }
    return true;
}

static const char *push_op(spec_ctx *c, int idx) {
    lua_getfield(c->L, idx, "op");
    const char *op = lua_tostring(c->L, -1);
    return op ? op : "?";
}

static double arithmetic(spec_ctx *c, int idx, const char *op, int32_t il, const char *place) {
    lua_rawgeti(c->L, idx, 1);
    double x = spec_number(c, lua_gettop(c->L), il, place), y = 1;
    lua_pop(c->L, 1);
    if (!strcmp(op, "ratio")) {
        lua_rawgeti(c->L, idx, 2);
        y = spec_number(c, lua_gettop(c->L), il, place);
        lua_pop(c->L, 1);
        x /= y;
    } else if (!strcmp(op, "sqrt")) {
        x = sqrt(x);
    } else if (!strcmp(op, "rsqrt")) {
        x = 1 / sqrt(x);
    } else {
        spec_fail(c, place, "%s is no value here", op);
    }
    if (!isfinite(x)) spec_fail(c, place, "%s gives no finite number", op);
    return x;
}

void spec_resolve(spec_ctx *c, int idx, int32_t il, const char *place) {
    lua_State *L = c->L;
    luaL_checkstack(L, 16, "expression too deep");
    lua_pushvalue(L, idx);
    for (int depth = 0; spec_is_node(L, -1); depth++) {
        if (depth > 16) spec_fail(c, place, "choices nested deeper than 16");
        int node = lua_gettop(L);
        const char *op = push_op(c, node);
        if (push_choice(c, node, op, il, place)) {
            lua_replace(L, node);
            lua_settop(L, node);
        } else {
            double x = arithmetic(c, node, op, il, place);
            lua_settop(L, node - 1);
            lua_pushnumber(L, x);
            return;
        }
    }
}

double spec_number(spec_ctx *c, int idx, int32_t il, const char *place) {
    lua_State *L = c->L;
    spec_resolve(c, idx, il, place);
    double x = 0;
    if (lua_type(L, -1) == LUA_TNUMBER) {
        x = lua_tonumber(L, -1);
    } else if (lua_isboolean(L, -1)) {
        x = lua_toboolean(L, -1);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        const char *name = lua_tostring(L, -1);
        uint32_t i = 0;
        while (i < c->n_param && strcmp(c->param[i].name, name))
            i++;
        if (i < c->n_param)
            x = c->param[i].value;
        else if (!peri_arch_param_get(c->a, name, il, &x))
            spec_fail(c, place, "\"%s\" is no parameter", name);
    } else {
        spec_fail(c, place, "found %s, expected a number", luaL_typename(L, -1));
    }
    lua_pop(L, 1);
    if (!isfinite(x)) spec_fail(c, place, "found %g, expected a finite number", x);
    return x;
}

/* {"key", "older.key", default}: the first key present, else the default, which is no string. */
static double param_from_list(spec_ctx *c, int idx, const char *place) {
    lua_State *L = c->L;
    lua_Integer n = luaL_len(L, idx);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, idx, i);
        if (lua_type(L, -1) != LUA_TSTRING) {
            double x = spec_number(c, lua_gettop(L), 0, place);
            lua_pop(L, 1);
            return x;
        }
        const char *key = lua_tostring(L, -1);
        const peri_gguf_value *v = find_key(c, key, place);
        double x = v ? param_key(c, v) : 0;
        bool is_absent = !v;
        for (size_t k = 0; k < sizeof zero_is_absent / sizeof zero_is_absent[0]; k++)
            if (v && x == 0 && !strcmp(key, zero_is_absent[k])) is_absent = true;
        lua_pop(L, 1);
        if (!is_absent) return x;
    }
    spec_fail(c, place, "none of its keys is in the file, and it has no default");
}

static double param_value(spec_ctx *c, int idx, const char *place) {
    lua_State *L = c->L;
    if (lua_type(L, idx) == LUA_TSTRING) {
        const char *key = lua_tostring(L, idx);
        const peri_gguf_value *v = find_key(c, key, place);
        if (!v) {
            char full[192];
            full_key(c, key, full, place);
            spec_raise(c,
                       peri_fail(c->err, PERI_E_NOT_FOUND, "%s: key %s is missing (%s of spec %s)",
                                 peri_gguf_path(c->g), full, place, c->path));
        }
        return param_key(c, v);
    }
    if (lua_istable(L, idx) && !spec_is_node(L, idx)) return param_from_list(c, idx, place);
    return spec_number(c, idx, 0, place);
}

/* A parameter of the spec with a standard name replaces the standard value, within its range. */
static bool override_standard(spec_ctx *c, const char *name, double x, const char *place) {
    for (uint32_t i = 0; i < peri_arch_n_param; i++) {
        const peri_arch_param *p = &peri_arch_params[i];
        if (strcmp(p->name, name)) continue;
        if (x < p->lo || x > p->hi)
            spec_fail(c, place, "found %.9g, expected %.9g to %.9g (%s)", x, p->lo, p->hi,
                      p->meaning);
        if (strcmp(name, "window"))
            spec_fail(c, place, "this standard parameter cannot be overridden");
        c->a->window = (int32_t)x;
        return true;
    }
    return false;
}

void spec_read_params(spec_ctx *c, int idx) {
    lua_State *L = c->L;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        char place[96];
        if (lua_type(L, -2) != LUA_TSTRING) spec_fail(c, "params", "names are strings");
        const char *name = lua_tostring(L, -2);
        snprintf(place, sizeof place, "params.%.60s", name);
        double x = param_value(c, lua_gettop(L), place);
        if (override_standard(c, name, x, place)) continue;
        if (c->n_param == SPEC_MAX_PARAM) spec_fail(c, "params", "more than %d", SPEC_MAX_PARAM);
        c->param[c->n_param].name = spec_keep(c, name);
        c->param[c->n_param++].value = x;
    }
}
