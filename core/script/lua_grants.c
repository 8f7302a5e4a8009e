/* SPDX-License-Identifier: MIT
 *
 * lua_grants.c - what a script may reach: given by --allow, or asked once and kept by the script's
 * SHA-256 in grants.json:
 *
 *     {"version": 1, "scripts": {"HASH": {"file": "NAME", "allow": ["fs.read=/folder"]}}}
 *
 * A changed script has another hash and is asked about again.  A file that cannot be read as this
 * is an error, and is never overwritten. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/json.h"
#include "base/status.h"
#include "base/suggest.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

enum { MAX_GRANTS = 256, MAX_FILE = 1 << 20, MAX_LIST = 64 };

const char *const grant_name[GRANT_KINDS] = {"fs.read", "fs.write", "env"};

/* ---- names --------------------------------------------------------------------------------- */

bool lua_path_absolute(const peri_lua *l, const char *path, char out[LUA_PATH_MAX]) {
    char joined[2 * LUA_PATH_MAX], base[LUA_PATH_MAX];
    if (path[0] == 0 || strlen(path) >= LUA_PATH_MAX) return false;
    if (path[0] == '/') {
        base[0] = 0;
    } else if (l->work_dir != NULL) {
        if (snprintf(base, sizeof base, "%s", l->work_dir) >= LUA_PATH_MAX) return false;
    } else if (getcwd(base, sizeof base) == NULL) {
        return false;
    }
    snprintf(joined, sizeof joined, "%s/%s", base, path);
    size_t n = 0;
    for (const char *p = joined; *p != 0;) {
        size_t part = strcspn(p, "/");
        if (part == 2 && p[0] == '.' && p[1] == '.') {
            while (n > 0 && out[--n] != '/') {
            }
        } else if (part > 0 && !(part == 1 && p[0] == '.')) {
            if (n + part + 2 > LUA_PATH_MAX) return false;
            out[n++] = '/';
            memcpy(out + n, p, part);
            n += part;
        }
        p += part;
        while (*p == '/')
            p++;
    }
    if (n == 0) out[n++] = '/';
    out[n] = 0;
    return true;
}

const lua_grant *lua_grant_find(const peri_lua *l, grant_kind kind, const char *path,
                                const char **rest) {
    for (size_t i = 0; i < l->n_grant; i++) {
        const lua_grant *g = &l->grant[i];
        size_t n = strlen(g->value);
        if (g->kind != kind || strncmp(g->value, path, n) != 0) continue;
        if (kind == GRANT_ENV) {
            if (path[n] == 0) return g;
            continue;
        }
        if (n > 1 && path[n] != 0 && path[n] != '/') continue;
        const char *r = path + n + (n > 1 && path[n] == '/');
        if (rest != NULL) *rest = *r != 0 ? r : ".";
        return g;
    }
    return NULL;
}

void lua_grant_free(peri_lua *l) {
    for (size_t i = 0; i < l->n_grant; i++)
        peri_free(l->grant[i].value);
    peri_free(l->grant);
    l->grant = NULL;
    l->n_grant = 0;
}

static peri_status append(peri_lua *l, grant_kind kind, const char *value, peri_error *err) {
    if (l->n_grant == MAX_GRANTS)
        return peri_fail(err, PERI_E_RANGE, "--allow: more than %d grants", MAX_GRANTS);
    lua_grant *more = peri_resize_array(l->grant, l->n_grant + 1, sizeof *more);
    if (more == NULL) return peri_fail(err, PERI_E_NOMEM, "--allow: out of memory");
    l->grant = more;
    more[l->n_grant].kind = kind;
    more[l->n_grant].value = peri_str_dup(peri_str_of(value));
    if (more[l->n_grant].value == NULL)
        return peri_fail(err, PERI_E_NOMEM, "--allow: out of memory");
    l->n_grant++;
    return PERI_OK;
}

static peri_status check_env_name(const char *name, peri_error *err) {
    if (name[0] == 0 || strlen(name) > 255 || strchr(name, '=') != NULL)
        return peri_fail(err, PERI_E_INVALID, "--allow env=%.60s: expected a variable's name",
                         name);
    return PERI_OK;
}

/* Kind of a capability's name, or an error that says which exist. */
static peri_status kind_of(const char *name, grant_kind *kind, peri_error *err) {
    static const char *const known[] = {"fs.read", "fs.write", "env", "net", "exec"};
    for (int i = 0; i < GRANT_KINDS; i++) {
        if (strcmp(name, grant_name[i]) != 0) continue;
        *kind = (grant_kind)i;
        return PERI_OK;
    }
    if (strcmp(name, "net") == 0 || strcmp(name, "exec") == 0)
        return peri_fail(err, PERI_E_UNSUPPORTED,
                         "capability '%s' is not available in this version: scripts have no %s",
                         name, name[0] == 'n' ? "network" : "other programs");
    const char *near = peri_nearest(name, known, 5);
    return peri_fail(err, PERI_E_INVALID,
                     "unknown capability '%.40s'%s%s%s; there are fs.read, fs.write and env", name,
                     near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                     near != NULL ? "'?" : "");
}

peri_status lua_grant_add(peri_lua *l, const char *text, peri_error *err) {
    char name[48], path[LUA_PATH_MAX];
    struct stat st;
    grant_kind kind;
    size_t n = strcspn(text, "=");
    if (text[n] == 0 || n >= sizeof name)
        return peri_fail(err, PERI_E_INVALID,
                         "--allow %.80s: expected fs.read=FOLDER, fs.write=FOLDER or env=NAME",
                         text);
    memcpy(name, text, n);
    name[n] = 0;
    peri_status status = kind_of(name, &kind, err);
    if (status != PERI_OK) return peri_wrap(err, "--allow");
    const char *value = text + n + 1;
    if (kind == GRANT_ENV) {
        status = check_env_name(value, err);
        return status != PERI_OK ? status : append(l, kind, value, err);
    }
    if (!lua_path_absolute(l, value, path))
        return peri_fail(err, PERI_E_INVALID, "--allow %.80s: no folder's name", text);
    if (stat(path, &st) != 0)
        return peri_fail(err, PERI_E_NOT_FOUND, "--allow %.80s: there is no folder %s", text, path);
    if (!S_ISDIR(st.st_mode))
        return peri_fail(err, PERI_E_INVALID, "--allow %.80s: is a file, expected a folder", text);
    return append(l, kind, path, err);
}

/* ---- grants.json --------------------------------------------------------------------------- */

char *peri_lua_config_dir(void) {
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (xdg != NULL && xdg[0] == '/') return peri_strf("%s/perigee", xdg);
    if (home != NULL && home[0] == '/') return peri_strf("%s/.config/perigee", home);
    return NULL;
}

/* The whole file as JSON; an empty one when there is none. */
static peri_status read_kept(const char *path, json_t **out, peri_error *err) {
    char *text = NULL;
    size_t size;
    *out = NULL;
    peri_json_init();
    peri_status status = peri_file_read(path, MAX_FILE, &text, &size, err);
    if (status == PERI_E_NOT_FOUND) {
        *out = json_pack("{s:i,s:{}}", "version", 1, "scripts");
        return *out != NULL ? PERI_OK : peri_fail(err, PERI_E_NOMEM, "%s: out of memory", path);
    }
    if (status == PERI_OK) {
        status = peri_json_parse(text, size, out, err);
        if (status != PERI_OK) peri_wrap(err, "%s", path);
    }
    peri_free(text);
    if (status != PERI_OK) return status;
    if (json_integer_value(json_object_get(*out, "version")) == 1 &&
        json_is_object(json_object_get(*out, "scripts")))
        return PERI_OK;
    json_decref(*out);
    *out = NULL;
    return peri_fail(err, PERI_E_CORRUPT, "%s: expected \"version\": 1 and an object \"scripts\"",
                     path);
}

static json_t *kept_list(json_t *all, const char *hash) {
    return json_object_get(json_object_get(json_object_get(all, "scripts"), hash), "allow");
}

/* Take the grants kept for this script.  What no longer fits (a folder that went) is asked again.
 */
static peri_status recall(peri_lua *l, peri_error *err) {
    json_t *all, *entry;
    size_t i;
    if (l->config_dir == NULL || l->user_hash[0] == 0) return PERI_OK;
    char *path = peri_strf("%s/grants.json", l->config_dir);
    if (path == NULL) return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    peri_status status = read_kept(path, &all, err);
    peri_free(path);
    if (status != PERI_OK) return status;
    json_array_foreach(kept_list(all, l->user_hash), i, entry) {
        peri_error ignored;
        if (json_is_string(entry)) lua_grant_add(l, json_string_value(entry), &ignored);
    }
    json_decref(all);
    return PERI_OK;
}

static void make_folders(const char *path) {
    char part[LUA_PATH_MAX];
    for (size_t i = 1; i < sizeof part; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        memcpy(part, path, i);
        part[i] = 0;
        mkdir(part, 0700); /* what fails here fails again, with a message, at the write */
        if (path[i] == 0) return;
    }
}

/* Keep one more grant of this script. */
static peri_status keep(peri_lua *l, const char *grant, peri_error *err) {
    json_t *all = NULL;
    char *text = NULL, *path;
    if (l->config_dir == NULL || l->user_hash[0] == 0) return PERI_OK;
    path = peri_strf("%s/grants.json", l->config_dir);
    if (path == NULL) return peri_fail(err, PERI_E_NOMEM, "Lua: out of memory");
    peri_status status = read_kept(path, &all, err);
    if (status != PERI_OK) goto done;
    json_t *list = kept_list(all, l->user_hash);
    if (!json_is_array(list)) {
        json_t *script = json_pack("{s:s,s:[]}", "file", l->user_name, "allow");
        json_object_set_new(json_object_get(all, "scripts"), l->user_hash, script);
        list = kept_list(all, l->user_hash);
    }
    if (json_array_append_new(list, json_string(grant)) != 0)
        status = peri_fail(err, PERI_E_NOMEM, "%s: out of memory", path);
    if (status == PERI_OK) status = peri_json_dump(all, JSON_INDENT(2), &text, err);
    if (status == PERI_OK) {
        make_folders(l->config_dir);
        status = peri_file_write(path, text, strlen(text), err);
    }
done:
    peri_free(text);
    json_decref(all);
    peri_free(path);
    return status;
}

/* ---- what a script asks for ---------------------------------------------------------------- */

static bool has_right(const peri_lua *l, grant_kind kind, const char *value) {
    return lua_grant_find(l, kind, value, NULL) != NULL;
}

/* Want one more: append "KIND=VALUE" to the list at `wants` unless it is granted. */
static bool want(lua_State *L, int wants, grant_kind kind, peri_error *err) {
    peri_lua *l = peri_lua_of(L);
    char path[LUA_PATH_MAX];
    if (lua_type(L, -1) != LUA_TSTRING) {
        peri_fail(err, PERI_E_INVALID,
                  "capabilities: %s: found %s, expected a string or a list of them",
                  grant_name[kind], luaL_typename(L, -1));
        return false;
    }
    const char *value = lua_tostring(L, -1);
    if (kind == GRANT_ENV) {
        if (check_env_name(value, err) != PERI_OK) return false;
    } else {
        if (!lua_path_absolute(l, value, path)) {
            peri_fail(err, PERI_E_INVALID, "capabilities: %s: no folder's name", grant_name[kind]);
            return false;
        }
        value = path;
    }
    if (has_right(l, kind, value)) return true;
    lua_pushfstring(L, "%s=%s", grant_name[kind], value);
    lua_rawseti(L, wants, (lua_Integer)lua_rawlen(L, wants) + 1);
    return true;
}

/* The value on top: a string or a list of strings. */
static bool want_each(lua_State *L, int wants, grant_kind kind, peri_error *err) {
    if (!lua_istable(L, -1)) return want(L, wants, kind, err);
    int list = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, list);
    if (n > MAX_LIST) {
        peri_fail(err, PERI_E_INVALID, "capabilities: %s: more than %d", grant_name[kind],
                  MAX_LIST);
        return false;
    }
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, list, i);
        if (!want(L, wants, kind, err)) return false;
        lua_settop(L, list);
    }
    return true;
}

static bool unknown_key(const char *place, const char *key, const char *const *known, size_t n,
                        peri_error *err) {
    const char *near = peri_nearest(key, known, n);
    peri_fail(err, PERI_E_INVALID, "capabilities%s: unknown key '%.40s'%s%s%s", place, key,
              near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
              near != NULL ? "'?" : "");
    return false;
}

static const char *key_text(lua_State *L, int idx) {
    return lua_type(L, idx) == LUA_TSTRING ? lua_tostring(L, idx) : "(list entry)";
}

/* The table `fs`, on top. */
static bool want_fs(lua_State *L, int wants, peri_error *err) {
    static const char *const known[] = {"read", "write"};
    if (!lua_istable(L, -1)) {
        peri_fail(err, PERI_E_INVALID,
                  "capabilities: fs: found %s, expected { read = ..., write = ... }",
                  luaL_typename(L, -1));
        return false;
    }
    int fs = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, fs); lua_settop(L, fs + 1)) {
        const char *key = key_text(L, fs + 1);
        bool is_read = strcmp(key, "read") == 0;
        if (!is_read && strcmp(key, "write") != 0) return unknown_key(".fs", key, known, 2, err);
        if (!want_each(L, wants, is_read ? GRANT_READ : GRANT_WRITE, err)) return false;
    }
    return true;
}

/* The capabilities table at index 1; what is not granted goes to the list at `wants`. */
static bool read_wants(lua_State *L, int wants, peri_error *err) {
    static const char *const known[] = {"fs", "env", "time", "net", "exec"};
    int top = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, 1); lua_settop(L, top + 1)) {
        const char *key = key_text(L, top + 1);
        grant_kind kind;
        if (strcmp(key, "fs") == 0) {
            if (!want_fs(L, wants, err)) return false;
        } else if (strcmp(key, "env") == 0) {
            if (!want_each(L, wants, GRANT_ENV, err)) return false;
        } else if (strcmp(key, "net") == 0 || strcmp(key, "exec") == 0) {
            kind_of(key, &kind, err);
            return false;
        } else if (strcmp(key, "time") != 0) { /* everybody has the time */
            return unknown_key("", key, known, 5, err);
        }
    }
    lua_settop(L, top);
    return true;
}

/* Ask for the right; true when it was given. */
static bool ask(lua_State *L, const char *right) {
    static const char *const meaning[GRANT_KINDS] = {"read files in", "write files in",
                                                     "see the environment variable"};
    peri_lua *l = peri_lua_of(L);
    char question[LUA_PATH_MAX + 256], shown[LUA_PATH_MAX + 256];
    size_t n = strcspn(right, "=");
    int kind = 0;
    if (l->ask == NULL) return false;
    while (kind + 1 < GRANT_KINDS &&
           (strlen(grant_name[kind]) != n || memcmp(grant_name[kind], right, n) != 0))
        kind++;
    snprintf(question, sizeof question, "%.100s wants to %s %s",
             l->user_name != NULL ? l->user_name : "The script", meaning[kind], right + n + 1);
    /* The script chose the name: it must not paint over the terminal that shows it. */
    if (!peri_escape(shown, sizeof shown, question)) return false;
    return l->ask(l->user, shown);
}

/* nil, err for the rights in the list at `wants`, from `first` on. */
static int refuse(lua_State *L, int wants, lua_Integer first) {
    lua_buf b;
    static const char head[] = "the script asks for more than it may have; add";
    lua_buf_init(&b, L);
    lua_buf_add(&b, head, sizeof head - 1);
    for (lua_Integer i = first; lua_rawgeti(L, wants, i) == LUA_TSTRING; i++) {
        size_t n;
        const char *s = lua_tolstring(L, -1, &n);
        lua_buf_add(&b, " --allow ", 9);
        lua_buf_add(&b, s, n);
        lua_pop(L, 1);
    }
    luaL_pushfail(L);
    peri_lua_push_error(L, PERI_E_OTHER, "");
    lua_pushliteral(L, "not_allowed");
    lua_setfield(L, -2, "code");
    lua_buf_push(&b);
    lua_setfield(L, -2, "message");
    return 2;
}

/* grants.request(capabilities) -> true | nil, err */
static int grants_request(lua_State *L) {
    enum { WANTS = 2 };
    peri_lua *l = peri_lua_of(L);
    peri_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_newtable(L);
    if (!read_wants(L, WANTS, &err)) return peri_lua_fail(L, &err);
    if (lua_rawlen(L, WANTS) > 0) {
        if (recall(l, &err) != PERI_OK) return peri_lua_fail(L, &err);
        lua_newtable(L); /* what is missing still */
        lua_replace(L, WANTS);
        lua_settop(L, WANTS);
        if (!read_wants(L, WANTS, &err)) return peri_lua_fail(L, &err);
    }
    for (lua_Integer i = 1; lua_rawgeti(L, WANTS, i) == LUA_TSTRING; i++) {
        const char *right = lua_tostring(L, -1);
        if (!ask(L, right)) return refuse(L, WANTS, i);
        if (lua_grant_add(l, right, &err) != PERI_OK || keep(l, right, &err) != PERI_OK)
            return peri_lua_fail(L, &err);
        lua_pop(L, 1);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* grants.list() -> {"fs.read=/folder", ...} as they are in force */
static int grants_list(lua_State *L) {
    const peri_lua *l = peri_lua_of(L);
    lua_createtable(L, (int)l->n_grant, 0);
    for (size_t i = 0; i < l->n_grant; i++) {
        lua_pushfstring(L, "%s=%s", grant_name[l->grant[i].kind], l->grant[i].value);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

int lua_open_grants(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"request", grants_request}, {"list", grants_list}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}

/* env.get(name) -> value, or nil when it is not set | nil, err */
static int env_get(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    if (lua_grant_find(peri_lua_of(L), GRANT_ENV, name, NULL) != NULL) {
        lua_pushstring(L, getenv(name));
        return 1;
    }
    luaL_pushfail(L);
    peri_lua_push_error(L, PERI_E_OTHER, "");
    lua_pushliteral(L, "not_allowed");
    lua_setfield(L, -2, "code");
    lua_pushfstring(L, "the environment variable %s is not allowed; add --allow env=%s", name,
                    name);
    lua_setfield(L, -2, "message");
    return 2;
}

int lua_open_env(lua_State *L) {
    static const luaL_Reg functions[] = {{"get", env_get}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
