/* SPDX-License-Identifier: MIT
 *
 * scripts/meta against the C modules: every registered function and method has a stub, every stub
 * is registered, and the documented parameters of a stub are those of its head.  (How many
 * arguments a C function takes cannot be seen from outside.) */
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/text.h"
#include "script/lua_engine.h"
#include "script/lua_host.h"
#include "script/lua_store.h"
#include "script/sandbox_int.h"

#define META PERI_SOURCE_DIR "/scripts/meta/sys"

enum { MAX_NAME = 400 };

/* A sorted list of "module.function" and "class:method". */
typedef struct names {
    char name[MAX_NAME][80];
    size_t n;
} names;

static void add(names *list, const char *a, char between, const char *b) {
    assert_true(list->n < MAX_NAME);
    snprintf(list->name[list->n++], sizeof list->name[0], "%.36s%c%.40s", a, between, b);
}

static int compare(const void *a, const void *b) {
    return strcmp(a, b);
}

static void sort(names *list) {
    qsort(list->name, list->n, sizeof list->name[0], compare);
    for (size_t i = 1; i < list->n; i++)
        if (!strcmp(list->name[i - 1], list->name[i])) fail_msg("%s occurs twice", list->name[i]);
}

static void report_missing(const names *in, const names *from, const char *what, int *n_missing) {
    for (size_t i = 0; i < in->n; i++) {
        if (bsearch(in->name[i], from->name, from->n, sizeof from->name[0], compare)) continue;
        print_error("%s %s\n", in->name[i], what);
        (*n_missing)++;
    }
}

/* ---- what is registered ---- */

static void ignore(void *user, const char *text) {
    (void)user;
    (void)text;
}

static void add_functions(names *list, lua_State *L, const char *owner, char between) {
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        if (lua_isfunction(L, -1)) add(list, owner, between, lua_tostring(L, -2));
}

/* Metatables in the registry that are called perigee.NAME and have methods. */
static void add_classes(names *list, lua_State *L) {
    for (lua_pushnil(L); lua_next(L, LUA_REGISTRYINDEX); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_istable(L, -1)) continue;
        const char *name = lua_tostring(L, -2);
        if (strncmp(name, "perigee.", 8)) continue;
        if (lua_getfield(L, -1, "__index") == LUA_TTABLE) add_functions(list, L, name + 8, ':');
        lua_pop(L, 1);
    }
}

static void list_registered(names *list) {
    peri_error err;
    peri_loop *loop;
    peri_lua *lua;
    peri_lua_loop *s;
    peri_models *models;
    peri_signal *signal;
    peri_load_env env = {.topology = NULL};
    peri_lua_options o = {.size = sizeof o};
    assert_ok(peri_signal_new(&signal, &err), err);
    assert_ok(peri_loop_new(&loop, &err), err);
    assert_ok(peri_lua_open(&o, &lua, &err), err);
    assert_ok(peri_lua_loop_new(lua, loop, ignore, NULL, &s, &err), err);
    peri_script_setup setup = {.interrupt = signal};
    peri_lua_host host = {.o = &setup, .loop = loop, .lua = lua, .s = s};
    assert_ok(peri_lua_host_open(&host, &err), err);
    assert_ok(peri_models_new(s, &env, NULL, NULL, &models, &err), err);
    assert_ok(peri_lua_engine_offer(lua, models, 0, &err), err);
    assert_ok(peri_lua_store_offer(lua, &err), err);
    lua_State *L = peri_lua_main(lua);
    for (size_t i = 0; i < lua->n_module; i++) {
        char name[80];
        snprintf(name, sizeof name, "perigee.sys.%s", lua->module[i].name);
        assert_ok(peri_lua_require(lua, name, &err), err);
        add_functions(list, L, lua->module[i].name, '.');
        lua_pop(L, 1);
    }
    add_classes(list, L);
    peri_lua_close(lua);
    peri_models_free(models);
    peri_lua_host_close(&host);
    peri_lua_loop_free(s);
    peri_loop_free(loop);
    peri_signal_free(signal);
}

/* ---- what the stubs say ---- */

/* "a, b, ..." of the parameters noted since the last function. */
static void note_param(peri_text *params, const char *line) {
    size_t n = strcspn(line, " ?");
    if (params->size) peri_text_add_str(params, ", ");
    peri_text_add(params, line, n);
}

static void read_head(names *list, const char *module, const char *line, peri_text *params) {
    char owner[40], name[40], args[80] = "";
    char between;
    int n = sscanf(line, "function %39[a-z_]%c%39[a-z_](%79[^)])", owner, &between, name, args);
    if (n < 3 || (between != '.' && between != ':')) fail_msg("%s: \"%s\"", module, line);
    add(list, between == '.' ? module : owner, between, name);
    const char *documented = params->data ? params->data : "";
    if (strcmp(args, documented))
        fail_msg("%s: %s(%s): @param says (%s)", module, name, args, documented);
    peri_text_fini(params);
}

static void read_stub(names *list, const char *module, char *text) {
    peri_text params = {0};
    char *save;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (!strncmp(line, "---@param ", 10))
            note_param(&params, line + 10);
        else if (!strncmp(line, "function ", 9))
            read_head(list, module, line, &params);
    }
    peri_text_fini(&params);
}

static size_t list_stubs(names *list) {
    DIR *d = opendir(META);
    size_t n_file = 0;
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        char module[80], path[400], *text;
        size_t size;
        peri_error err;
        if (sscanf(e->d_name, "%79[a-z_].lua", module) != 1) continue;
        snprintf(path, sizeof path, "%s/%s", META, e->d_name);
        assert_ok(peri_file_read(path, 1 << 20, &text, &size, &err), err);
        read_stub(list, module, text);
        peri_free(text);
        n_file++;
    }
    closedir(d);
    return n_file;
}

static void stubs_and_registrations_are_the_same(void **state) {
    (void)state;
    static names registered, stubs;
    int n_missing = 0;
    list_registered(&registered);
    size_t n_file = list_stubs(&stubs);
    sort(&registered);
    sort(&stubs);
    report_missing(&registered, &stubs, "is registered and has no stub in scripts/meta/sys",
                   &n_missing);
    report_missing(&stubs, &registered, "has a stub and is not registered", &n_missing);
    assert_int_equal(n_missing, 0);
    assert_true(n_file >= 9);
    assert_true(registered.n > 40);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stubs_and_registrations_are_the_same),
    };
    return peri_run_tests(tests);
}
