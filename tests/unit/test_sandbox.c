/* SPDX-License-Identifier: MIT
 *
 * test_sandbox.c - scripts in the sandbox: limits, what can be reached, equality with stock Lua. */
#define _GNU_SOURCE
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "base/text.h"
#include "fault.h"
#include "rig.h"
#include "script/lua_json.h"
#include "script/lua_sandbox.h"

#define CASES PERI_SOURCE_DIR "/tests/cases/"

/* ---- running -------------------------------------------------------------------------------- */

typedef struct world {
    peri_lua *l;
    peri_text out; /* what print wrote */
    bool answer;   /* to questions */
    char question[4200];
    int n_question;
    peri_error err;
} world;

static void on_print(void *user, const char *text, size_t size) {
    peri_text_add(&((world *)user)->out, text, size);
}

__attribute__((unused)) static bool on_ask(void *user, const char *question) {
    world *w = user;
    w->n_question++;
    snprintf(w->question, sizeof w->question, "%s", question);
    return w->answer;
}

static void open_world(world *w, peri_lua_options o) {
    *w = (world){0};
    o.size = sizeof o;
    o.user = w;
    o.print = on_print;
    if (o.slice_ms == 0) o.slice_ms = 5000;
    assert_ok(peri_lua_open(&o, &w->l, &w->err), w->err);
}

static void close_world(world *w) {
    peri_lua_close(w->l);
    peri_text_fini(&w->out);
}

/* Run the function on top of the main thread's stack as a coroutine of the host; its results stay on
 * the coroutine, which stays on the main thread's stack. */
static peri_status run_top(world *w, lua_State **out, int *n) {
    lua_State *L = peri_lua_main(w->l), *co = lua_newthread(L);
    lua_insert(L, -2);
    lua_xmove(L, co, 1);
    *out = co;
    return peri_lua_resume(w->l, co, 0, n, &w->err);
}

/* Run text; the status.  What it prints is in w->out, its error in w->err. */
static peri_status run(world *w, const char *text) {
    lua_State *co;
    int n;
    w->out.size = 0;
    peri_text_add(&w->out, "", 0);
    peri_status status = peri_lua_load_text(w->l, "t.lua", text, strlen(text), &w->err);
    if (status != PERI_OK) return status;
    status = run_top(w, &co, &n);
    if (status == PERI_OK && lua_status(co) == LUA_YIELD) fail_msg("the script waits");
    lua_settop(peri_lua_main(w->l), 0);
    return status;
}

static void expect_print(world *w, const char *text, const char *want) {
    assert_ok(run(w, text), w->err);
    assert_string_equal(w->out.data ? w->out.data : "", want);
}

__attribute__((unused)) static void expect_error(world *w, const char *text, peri_status code, const char *want) {
    peri_status status = run(w, text);
    if (status == PERI_OK) fail_msg("no error from: %s\nprinted: %s", text, w->out.data);
    assert_int_equal(status, code);
    assert_error(&w->err, code, want);
}

static void world_is_fine(world *w) {
    expect_print(w, "local t = {} for i = 1, 3 do t[i] = ('x'):rep(i) end print(table.concat(t, ','))",
                 "x,xx,xxx\n");
}

/* ---- hostile scripts ---------------------------------------------------------------------------- */

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The rest of the line "-- KEY: ..." in the head of the script; false when there is none. */
static bool head_line(const char *text, const char *key, char *out, size_t room) {
    char mark[32];
    snprintf(mark, sizeof mark, "-- %s: ", key);
    const char *at = strstr(text, mark);
    if (at == NULL) return false;
    at += strlen(mark);
    snprintf(out, room, "%.*s", (int)strcspn(at, "\n"), at);
    return true;
}

static void stop_one(const char *path) {
    char *text, want[256], status[32];
    size_t size;
    lua_State *co = NULL;
    int n;
    world w;
    open_world(&w, (peri_lua_options){.slice_ms = 100});
    assert_ok(peri_file_read(path, 1 << 20, &text, &size, &w.err), w.err);
    if (!head_line(text, "expect", want, sizeof want)) fail_msg("%s: no line \"-- expect:\"", path);
    if (!head_line(text, "status", status, sizeof status)) snprintf(status, sizeof status, "TIMEOUT");
    double before = cpu_seconds();
    peri_status got = peri_lua_load_user(w.l, path, &w.err);
    if (got == PERI_OK) got = run_top(&w, &co, &n);
    double took = cpu_seconds() - before;
    const char *said = got != PERI_OK ? w.err.text : w.out.data != NULL ? w.out.data : "";
    if (strstr(status, peri_status_name(got)) == NULL || strstr(said, want) == NULL)
        fail_msg("%s: %s \"%s\", expected %s \"%s\"", path, peri_status_name(got), said, status, want);
    if (took > 1.0) fail_msg("%s: %.2f s of processor time", path, took);
    if (w.out.data != NULL && strstr(w.out.data, "swallowed") != NULL)
        fail_msg("%s: went on after its end: %s", path, w.out.data);
    lua_settop(peri_lua_main(w.l), 0);
    lua_gc(peri_lua_main(w.l), LUA_GCCOLLECT);
    world_is_fine(&w);
    close_world(&w);
    peri_free(text);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void hostile_scripts_are_stopped(void **state) {
    enum { MAX = 200 };
    char *path[MAX];
    size_t n = 0;
    (void)state;
    DIR *d = opendir(CASES "hostile");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < MAX;)
        if (strstr(e->d_name, ".lua") != NULL)
            path[n++] = peri_strf(CASES "hostile/%s", e->d_name);
    closedir(d);
    assert_true(n >= 45);
    qsort(path, n, sizeof *path, by_name);
    for (size_t i = 0; i < n; i++) {
        stop_one(path[i]);
        peri_free(path[i]);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_scripts_are_stopped),
    };
    return peri_run_tests(tests);
}
