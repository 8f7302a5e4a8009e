/* SPDX-License-Identifier: MIT
 *
 * test_sandbox.c - scripts in the sandbox: limits, what can be reached, equality with stock Lua. */
#define _GNU_SOURCE
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "fault.h"
#include "lua_world.h"

#define CASES PERI_SOURCE_DIR "/tests/cases/"

/* ---- hostile scripts ----------------------------------------------------------------------- */

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

/* A script that is to end by itself, with an error or its memory used up, gets a slice that a slow
 * machine does not use up first; one that is to be stopped gets a short one. */
static void stop_one(const char *path) {
    char *text, want[256], status[32];
    size_t size;
    lua_State *co = NULL;
    int n;
    world w;
    peri_error err;
    assert_ok(peri_file_read(path, 1 << 20, &text, &size, &err), err);
    if (!head_line(text, "expect", want, sizeof want)) fail_msg("%s: no line \"-- expect:\"", path);
    if (!head_line(text, "status", status, sizeof status))
        snprintf(status, sizeof status, "TIMEOUT");
    peri_free(text);
    bool is_stopped = strstr(status, "TIMEOUT") != NULL;
    open_world(&w, (peri_lua_options){.slice_ms = is_stopped ? 100 : 10000});
    double before = cpu_seconds();
    peri_status got = peri_lua_load_user(w.l, path, &w.err);
    if (got == PERI_OK) got = run_top(&w, &co, &n);
    double took = cpu_seconds() - before;
    const char *said = got != PERI_OK ? w.err.text : w.out.data != NULL ? w.out.data : "";
    if (strstr(status, peri_status_name(got)) == NULL || strstr(said, want) == NULL)
        fail_msg("%s: %s \"%s\", expected %s \"%s\"", path, peri_status_name(got), said, status,
                 want);
    if (is_stopped && took > 1.0) fail_msg("%s: %.2f s of processor time", path, took);
    if (w.out.data != NULL && strstr(w.out.data, "swallowed") != NULL)
        fail_msg("%s: went on after its end: %s", path, w.out.data);
    lua_settop(peri_lua_main(w.l), 0);
    lua_gc(peri_lua_main(w.l), LUA_GCCOLLECT);
    world_is_fine(&w);
    close_world(&w);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void hostile_scripts_are_stopped(void **state) {
    enum { MAX = 200 };
    char *path[MAX];
    size_t n = 0;
    (void)state;
    world_needs_signals();
    DIR *d = opendir(CASES "hostile");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL && n < MAX;)
        if (strstr(e->d_name, ".lua") != NULL) path[n++] = peri_strf(CASES "hostile/%s", e->d_name);
    closedir(d);
    assert_true(n >= 45);
    qsort(path, n, sizeof *path, by_name);
    for (size_t i = 0; i < n; i++) {
        stop_one(path[i]);
        peri_free(path[i]);
    }
}

/* ---- what can be reached ------------------------------------------------------------------- */

/* Lua has no order of keys: names are sorted, tables walked once, by their first name. */
static const char walker[] =
    "local seen, lines = {}, {}\n"
    "local function walk(v, name)\n"
    "  lines[#lines + 1] = name .. ' ' .. type(v)\n"
    "  if type(v) ~= 'table' or seen[v] then return end\n"
    "  seen[v] = true\n"
    "  local keys = {}\n"
    "  for k in pairs(v) do keys[#keys + 1] = k end\n"
    "  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)\n"
    "  for _, k in ipairs(keys) do walk(v[k], name .. '.' .. tostring(k)) end\n"
    "  local m = getmetatable(v)\n"
    "  if m ~= nil then walk(m, name .. '<meta>') end\n"
    "end\n"
    "walk(_ENV, '_ENV')\n"
    "walk(getmetatable(''), 'string<meta>')\n"
    "print(table.concat(lines, '\\n'))\n";

static void reachable_globals_are_these(void **state) {
    char *want;
    size_t size;
    world w;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    assert_ok(run(&w, walker), w.err);
    assert_ok(peri_file_read(CASES "lua/globals.txt", 1 << 20, &want, &size, &w.err), w.err);
    assert_string_equal(w.out.data, want);
    peri_free(want);
    close_world(&w);
}

/* ---- the same as stock Lua ----------------------------------------------------------------- */

static peri_text stock_out;

static int stock_print(lua_State *L) {
    for (int i = 1; i <= lua_gettop(L); i++) {
        if (i > 1) peri_text_add(&stock_out, "\t", 1);
        peri_text_add_str(&stock_out, luaL_tolstring(L, i, NULL));
        lua_pop(L, 1);
    }
    peri_text_add(&stock_out, "\n", 1);
    return 0;
}

/* What a script prints in stock Lua; an error is its last line. */
static const char *run_stock(const char *name, const char *text) {
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_register(L, "print", stock_print);
    stock_out.size = 0;
    peri_text_add(&stock_out, "", 0);
    char chunk[64];
    snprintf(chunk, sizeof chunk, "@%s", name);
    if (luaL_loadbufferx(L, text, strlen(text), chunk, "t") || lua_pcall(L, 0, 0, 0))
        peri_text_addf(&stock_out, "error: %s\n", luaL_tolstring(L, -1, NULL));
    lua_close(L);
    return stock_out.data;
}

static void same_as_stock(const char *name, const char *text) {
    world w;
    lua_State *co;
    int n;
    open_world(&w, (peri_lua_options){0});
    peri_status status = peri_lua_load_text(w.l, name, text, strlen(text), &w.err);
    if (status == PERI_OK) status = run_top(&w, &co, &n);
    if (status != PERI_OK) {
        const char *said = peri_lua_error_text(w.l);
        const char *frames = strstr(said, "\n  ");
        peri_text_addf(&w.out, "error: %.*s\n",
                       (int)(frames != NULL ? (size_t)(frames - said) : strlen(said)), said);
    }
    const char *want = run_stock(name, text);
    const char *got = w.out.data != NULL ? w.out.data : "";
    if (strcmp(got, want) != 0) {
        size_t i = 0, line = 0;
        for (; got[i] == want[i]; i++)
            if (got[i] == '\n') line = i + 1;
        fail_msg("%s: printed \"%.300s\", stock Lua \"%.300s\"", name, got + line, want + line);
    }
    close_world(&w);
}

static void programs_behave_as_in_stock_lua(void **state) {
    size_t n = 0;
    (void)state;
    DIR *d = opendir(CASES "lua/programs");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strstr(e->d_name, ".lua") == NULL) continue;
        char *path = peri_strf(CASES "lua/programs/%s", e->d_name), *text;
        size_t size;
        peri_error err;
        assert_ok(peri_file_read(path, 1 << 20, &text, &size, &err), err);
        same_as_stock(e->d_name, text);
        peri_free(text);
        peri_free(path);
        n++;
    }
    closedir(d);
    assert_true(n >= 8);
}

static uint64_t random_state;

static unsigned below(unsigned n) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_state >> 33) % n;
}

static void random_text(char *out, size_t room, const char *const *part, unsigned n_part,
                        unsigned max) {
    out[0] = 0;
    for (unsigned i = below(max + 1); i > 0; i--) {
        size_t n = strlen(out);
        snprintf(out + n, room - n, "%s", part[below(n_part)]);
    }
}

/* A few thousand patterns made of likely and unlikely pieces, each used in five ways. */
static void patterns_match_as_in_stock_lua(void **state) {
    static const char *const piece[] = {
        "a",    "b",     "%a", "%d",   "%s",   "%w",     "%p",   "%u",    "%l",    "%x",  "%c",
        "%g",   "%A",    "%D", "%W",   ".",    "[ab]",   "[^a]", "[a-c]", "[%a_]", "[]]", "[^]]",
        "[a-]", "[%-a]", "[",  "]",    "*",    "+",      "-",    "?",     "(",     ")",   "()",
        "%1",   "%2",    "%0", "%b()", "%bab", "%f[%a]", "%f",   "%b",    "%",     "^",   "$",
        "%%",   "%.",    "[%", "[a",   "_",    " ",      "1",    "\\n"};
    static const char *const letter[] = {"a", "b", "c", "A", "1", "_", " ",
                                         "(", ")", "]", "-", ".", "%", "ab"};
    static const char *const repl[] = {"x", "%0", "%1", "%2", "%%", "<", ">", "%", "%a"};
    static peri_text text;
    (void)state;
    random_state = 1;
    for (int batch = 0; batch < 40; batch++) {
        text.size = 0;
        peri_text_add_str(
            &text, "local function t(s, p, r)\n"
                   "  print(p, pcall(string.find, s, p))\n"
                   "  print(pcall(string.match, s, p, -3))\n"
                   "  print(pcall(string.gsub, s, p, r))\n"
                   "  print(pcall(string.gsub, s, p, { a = 1, ab = false }, 2))\n"
                   "  print(pcall(function() for x, y in s:gmatch(p) do print(x, y) end end))\n"
                   "  print(pcall(string.gsub, s, p, function(...) print(...) end))\n"
                   "end\n");
        for (int i = 0; i < 100; i++) {
            char p[80], s[80], r[40];
            random_text(p, sizeof p, piece, sizeof piece / sizeof *piece, 6);
            random_text(s, sizeof s, letter, sizeof letter / sizeof *letter, 12);
            random_text(r, sizeof r, repl, sizeof repl / sizeof *repl, 3);
            peri_text_addf(&text, "t(\"%s\", \"%s\", \"%s\")\n", s, p, r);
        }
        same_as_stock("p.lua", text.data);
    }
    peri_text_fini(&text);
    peri_text_fini(&stock_out);
}

/* ---- errors -------------------------------------------------------------------------------- */

static void errors_carry_place_code_and_trace(void **state) {
    world w;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    expect_error(&w, "local function f()\n  error('no luck')\nend\nf()", PERI_E_OTHER,
                 "t.lua:2: no luck");
    assert_non_null(strstr(peri_lua_error_text(w.l), "\n  t.lua:2: in function f"));
    assert_non_null(strstr(peri_lua_error_text(w.l), "\n  t.lua:4: in the script"));
    expect_error(&w, "local x =", PERI_E_CORRUPT, "t.lua:1: unexpected symbol near <eof>");
    expect_error(&w, "\x1bLua", PERI_E_CORRUPT, "t.lua: is a precompiled chunk");
    expect_error(&w, "error({})", PERI_E_OTHER, "table: 0x");
    expect_error(&w, "error()", PERI_E_OTHER, "nil");
    expect_error(&w, "error(setmetatable({}, { __tostring = function() return 'mine' end }))",
                 PERI_E_OTHER, "mine");
    expect_error(&w, "error(setmetatable({}, { __tostring = function() error('again') end }))",
                 PERI_E_OTHER, "an error that has no text");
    world_is_fine(&w);
    close_world(&w);
}

static int fail_not_found(lua_State *L) {
    peri_error err;
    peri_fail(&err, PERI_E_NOT_FOUND, "no %s here", luaL_checkstring(L, 1));
    return peri_lua_fail(L, &err);
}

static int misuse(lua_State *L) {
    peri_lua_misuse(L, "wrong %s", "use");
}

static void err_tables_print_as_their_message(void **state) {
    world w;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    assert_ok(run_with(&w,
                       "local f = ...\nlocal v, err = f('cake')\n"
                       "print(v, err, err.code, 'E: ' .. err, getmetatable(err))\n"
                       "print(pcall(setmetatable, err, {}))\n",
                       fail_not_found),
              w.err);
    assert_string_equal(w.out.data, "nil\tno cake here\tnot_found\tE: no cake here\tfalse\n"
                                    "false\tcannot change a protected metatable\n");
    assert_int_equal(run_with(&w, "local f = ...\nassert(f('cake'))", fail_not_found),
                     PERI_E_NOT_FOUND);
    assert_error(&w.err, PERI_E_NOT_FOUND, "no cake here");
    assert_int_equal(run_with(&w, "local f = ...\nf()", misuse), PERI_E_OTHER);
    assert_error(&w.err, PERI_E_OTHER, "t.lua:2: wrong use");
    close_world(&w);
}

/* ---- waiting ------------------------------------------------------------------------------- */

static int after_wait(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    lua_pushinteger(L, (lua_Integer)ctx);
    return 2;
}

/* Waits; returns what the host resumes with, and 7. */
static int wait_here(lua_State *L) {
    lua_settop(L, 1);
    return peri_lua_wait(L, 1, 7, after_wait);
}

static void waits_reach_the_host_through_coroutines(void **state) {
    static const char text[] = "local wait = ...\n"
                               "print('got', wait('first'))\n"
                               "local inner = coroutine.wrap(function()\n"
                               "  local a, seven = wait('second')\n"
                               "  coroutine.yield(a .. seven)\n"
                               "  local co = coroutine.create(function() return select(1, "
                               "pcall(wait, 'third')), coroutine.isyieldable() end)\n"
                               "  print(coroutine.resume(co))\n"
                               "  print(coroutine.status(co))\n"
                               "  return 'end'\n"
                               "end)\n"
                               "print(inner())\n"
                               "print(inner())\n"
                               "print(pcall(table.sort, { 2, 1 }, function() wait('never') end))\n"
                               "print(pcall(string.gsub, 'x', 'x', wait))\n";
    static const char *const asked[] = {"first", "second", "third"};
    world w;
    int n = 0;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    lua_State *L = peri_lua_main(w.l), *co = lua_newthread(L);
    assert_ok(peri_lua_load_text(w.l, "t.lua", text, strlen(text), &w.err), w.err);
    lua_xmove(L, co, 1);
    lua_pushcfunction(co, wait_here);
    assert_ok(peri_lua_resume(w.l, co, 1, &n, &w.err), w.err);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lua_status(co), LUA_YIELD);
        assert_int_equal(n, 1);
        assert_string_equal(lua_tostring(co, -1), asked[i]);
        lua_pop(co, 1);
        lua_pushfstring(co, "answer %d", i + 1);
        assert_ok(peri_lua_resume(w.l, co, 1, &n, &w.err), w.err);
    }
    assert_int_equal(lua_status(co), LUA_OK);
    assert_string_equal(
        w.out.data, "got\tanswer 1\t7\nanswer 27\ntrue\ttrue\ttrue\ndead\nend\n"
                    "false\tt.lua:13: cannot wait here: a function called from C (a comparison, "
                    "a replacement, a __tostring) must not wait\n"
                    "false\tcannot wait here: a function called from C (a comparison, "
                    "a replacement, a __tostring) must not wait\n");
    close_world(&w);
}

static void a_waiting_coroutine_closes_its_variables(void **state) {
    static const char text[] =
        "local wait = ...\n"
        "local x <close> = setmetatable({}, { __close = function() print('closed') end })\n"
        "wait()";
    world w;
    int n = 0;
    (void)state;
    world_needs_signals();
    open_world(&w, (peri_lua_options){.slice_ms = 50});
    lua_State *L = peri_lua_main(w.l), *co = lua_newthread(L);
    assert_ok(peri_lua_load_text(w.l, "t.lua", text, strlen(text), &w.err), w.err);
    lua_xmove(L, co, 1);
    lua_pushcfunction(co, wait_here);
    assert_ok(peri_lua_resume(w.l, co, 1, &n, &w.err), w.err);
    assert_ok(peri_lua_close_thread(w.l, co, &w.err), w.err);
    assert_string_equal(w.out.data, "closed\n");
    /* A slice that is over leaves nothing to close. */
    co = lua_newthread(L);
    const char *loop =
        "local x <close> = setmetatable({}, { __close = function() print('no') end })\n"
        "while true do end";
    assert_ok(peri_lua_load_text(w.l, "t.lua", loop, strlen(loop), &w.err), w.err);
    lua_xmove(L, co, 1);
    assert_int_equal(peri_lua_resume(w.l, co, 0, &n, &w.err), PERI_E_TIMEOUT);
    assert_error(&w.err, PERI_E_TIMEOUT, "t.lua:2: script ran 50 ms without waiting");
    assert_ok(peri_lua_close_thread(w.l, co, &w.err), w.err);
    assert_string_equal(w.out.data, "closed\n");
    assert_int_equal(peri_lua_resume(w.l, co, 0, &n, &w.err), PERI_E_INVALID);
    lua_settop(L, 0);
    world_is_fine(&w);
    close_world(&w);
}

/* A script that knows the coroutine it runs in cannot resume it in the host's place. */
static void only_the_host_resumes_what_waits(void **state) {
    static const char first[] = "local wait = ...\nprint(wait(coroutine.running()))";
    static const char second[] = "local co = ...\nprint(coroutine.resume(co, 'forged'))\n"
                                 "print(coroutine.status(co), pcall(coroutine.close, co))";
    world w;
    int n = 0;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    lua_State *L = peri_lua_main(w.l), *a = lua_newthread(L), *b = lua_newthread(L);
    assert_ok(peri_lua_load_text(w.l, "a.lua", first, sizeof first - 1, &w.err), w.err);
    lua_xmove(L, a, 1);
    lua_pushcfunction(a, wait_here);
    assert_ok(peri_lua_resume(w.l, a, 1, &n, &w.err), w.err);
    assert_int_equal(n, 1);
    assert_ok(peri_lua_load_text(w.l, "b.lua", second, sizeof second - 1, &w.err), w.err);
    lua_xmove(L, b, 1);
    lua_xmove(a, b, 1);
    assert_ok(peri_lua_resume(w.l, b, 1, &n, &w.err), w.err);
    lua_pushliteral(a, "genuine");
    assert_ok(peri_lua_resume(w.l, a, 1, &n, &w.err), w.err);
    assert_string_equal(w.out.data, "false\tcannot resume non-suspended coroutine\n"
                                    "normal\tfalse\tcannot close a normal coroutine\n"
                                    "genuine\t7\n");
    close_world(&w);
}

/* Slices count time that runs, not time that waits: many short runs are fine. */
static void slices_start_anew_at_each_wait(void **state) {
    static const char text[] = "local wait = ...\n"
                               "for i = 1, 20 do\n"
                               "  for k = 1, 200000 do local x = k * 2 end\n"
                               "  wait()\n"
                               "end";
    world w;
    int n = 0, waits = 0;
    (void)state;
    open_world(&w, (peri_lua_options){.slice_ms = 100});
    lua_State *L = peri_lua_main(w.l), *co = lua_newthread(L);
    assert_ok(peri_lua_load_text(w.l, "t.lua", text, strlen(text), &w.err), w.err);
    lua_xmove(L, co, 1);
    lua_pushcfunction(co, wait_here);
    assert_ok(peri_lua_resume(w.l, co, 1, &n, &w.err), w.err);
    for (; lua_status(co) == LUA_YIELD; waits++) {
        lua_pop(co, n);
        assert_ok(peri_lua_resume(w.l, co, 0, &n, &w.err), w.err);
    }
    assert_int_equal(waits, 20);
    close_world(&w);
}

/* Two states on one thread, one inside the other: the inner slice ends alone. */
static peri_lua *inner_state;

static int run_inner(lua_State *L) {
    peri_error err;
    const char *text = "while true do end";
    if (peri_lua_load_text(inner_state, "inner.lua", text, strlen(text), &err) != PERI_OK ||
        peri_lua_call(inner_state, peri_lua_main(inner_state), 0, 0, &err) != PERI_OK)
        return peri_lua_fail(L, &err);
    return 0;
}

static void a_slice_inside_a_slice_ends_alone(void **state) {
    world outer, inner;
    (void)state;
    world_needs_signals();
    open_world(&outer, (peri_lua_options){.slice_ms = 400});
    open_world(&inner, (peri_lua_options){.slice_ms = 50});
    inner_state = inner.l;
    assert_ok(run_with(&outer, "local f = ...\nprint(f())", run_inner), outer.err);
    assert_string_equal(outer.out.data, "nil\tinner.lua:1: script ran 50 ms without waiting; "
                                        "perigee.sleep(0) in a long loop lets others go on\n");
    assert_int_equal(run_with(&outer, "local f = ...\nf()\nwhile true do end", run_inner),
                     PERI_E_TIMEOUT);
    assert_error(&outer.err, PERI_E_TIMEOUT, "t.lua:3: script ran 400 ms");
    close_world(&inner);
    close_world(&outer);
}

/* A C function that runs more of the same state and keeps its failure to itself. */
static int run_more(lua_State *L) {
    peri_lua *l = peri_lua_of(L);
    peri_error err;
    const char *text = "while true do end";
    if (peri_lua_load_text(l, "more.lua", text, strlen(text), &err) == PERI_OK)
        lua_pushinteger(L, peri_lua_call(l, peri_lua_main(l), 0, 0, &err));
    return 1;
}

static void a_nested_call_does_not_hide_the_end(void **state) {
    world w;
    (void)state;
    world_needs_signals();
    open_world(&w, (peri_lua_options){.slice_ms = 50});
    assert_int_equal(run_with(&w, "local f = ...\nf()\nwhile true do end", run_more),
                     PERI_E_TIMEOUT);
    assert_error(&w.err, PERI_E_TIMEOUT, "more.lua:1: script ran 50 ms without waiting");
    world_is_fine(&w);
    close_world(&w);
}

/* ---- random numbers ------------------------------------------------------------------------ */

static void random_numbers_follow_the_seed(void **state) {
    static const char text[] =
        "local t = {}\nfor i = 1, 5 do t[i] = math.random(100) end\n"
        "print(table.concat(t, ' '), math.random() < 1, math.type(math.random(0)))";
    char first[80];
    world w;
    (void)state;
    open_world(&w, (peri_lua_options){.seed = 7});
    assert_ok(run(&w, text), w.err);
    snprintf(first, sizeof first, "%s", w.out.data);
    assert_non_null(strstr(first, "true\tinteger"));
    close_world(&w);
    open_world(&w, (peri_lua_options){.seed = 7});
    expect_print(&w, text, first);
    close_world(&w);
    open_world(&w, (peri_lua_options){.seed = 8});
    assert_ok(run(&w, text), w.err);
    assert_string_not_equal(w.out.data, first);
    expect_print(
        &w,
        "for i = 1, 1000 do\n  local x = math.random(-3, 3)\n  assert(x >= -3 and x <= 3)\nend\n"
        "print(math.random(5, 5), pcall(math.random, 2, 1))",
        "5\tfalse\tbad argument #2 to 'math.random' (interval is empty)\n");
    close_world(&w);
}

/* ---- modules ------------------------------------------------------------------------------- */

static void modules_load_once_and_stay_inside(void **state) {
    world w;
    lua_State *co;
    int n;
    (void)state;
    open_world(&w, (peri_lua_options){.script_dir = CASES "lua"});
    assert_ok(peri_lua_load_user(w.l, CASES "lua/modules/main.lua", &w.err), w.err);
    assert_ok(run_top(&w, &co, &n), w.err);
    assert_string_equal(w.out.data, "counter loaded\n1\t2\ntrue\n"
                                    "below/deep\n"
                                    "there is no such file\n"
                                    "required while it is being loaded\n"
                                    "read-only\nread-only\n"
                                    "trusted\t3\tnil\n");
    lua_settop(peri_lua_main(w.l), 0);
    assert_ok(peri_lua_require(w.l, "perigee.helper", &w.err), w.err);
    assert_true(lua_istable(peri_lua_main(w.l), -1));
    lua_settop(peri_lua_main(w.l), 0);
    assert_int_equal(peri_lua_require(w.l, "perigee.nothing", &w.err), PERI_E_OTHER);
    assert_error(&w.err, PERI_E_OTHER, "perigee/nothing.lua");
    assert_int_equal(peri_lua_require(w.l, "perigee.sys.nothing", &w.err), PERI_E_OTHER);
    assert_int_equal(peri_lua_require(w.l, "helper", &w.err), PERI_E_OTHER);
    close_world(&w);
}

/* A module may wait while it loads: require yields. */
static void a_module_may_wait_while_it_loads(void **state) {
    world w;
    int n = 0;
    (void)state;
    open_world(&w, (peri_lua_options){0});
    lua_State *L = peri_lua_main(w.l), *co = lua_newthread(L);
    assert_ok(peri_lua_load_user(w.l, CASES "lua/modules/waits_main.lua", &w.err), w.err);
    lua_xmove(L, co, 1);
    lua_pushcfunction(co, wait_here);
    assert_ok(peri_lua_resume(w.l, co, 1, &n, &w.err), w.err);
    assert_int_equal(lua_status(co), LUA_YIELD);
    lua_settop(co, 0);
    lua_pushliteral(co, "loaded late");
    assert_ok(peri_lua_resume(w.l, co, 1, &n, &w.err), w.err);
    assert_int_equal(lua_status(co), LUA_OK);
    assert_string_equal(w.out.data, "loaded late\ttrue\n");
    close_world(&w);
}

/* ---- no memory ----------------------------------------------------------------------------- */

static const char small_script[] =
    "local t = {}\n"
    "for w in ('some words to count some words'):gmatch('%a+') do t[#t + 1] = w:upper() end\n"
    "table.sort(t)\n"
    "local ok, e = pcall(error, 'x')\n"
    "local co = coroutine.wrap(function() coroutine.yield(table.concat(t, ' ')) end)\n"
    "local json = (...)('json')\n"
    "print(co(), json.encode(json.decode('{\"a\":[1,2.5,\"x\"],\"b\":null}')))\n";

/* Open a state and run the script; the first failure. */
static peri_status whole_life(world *w) {
    peri_lua_options o = {.size = sizeof o, .slice_ms = 5000, .work_dir = "/"};
    peri_status status = peri_lua_open(&o, &w->l, &w->err);
    if (status != PERI_OK) return status;
    lua_State *L = peri_lua_main(w->l);
    status = peri_lua_load_text(w->l, "t.lua", small_script, sizeof small_script - 1, &w->err);
    if (status == PERI_OK) {
        lua_pushcfunction(L, sys_module);
        status = peri_lua_call(w->l, L, 1, 0, &w->err);
    }
    peri_lua_close(w->l);
    w->l = NULL;
    return status;
}

static void every_allocation_may_fail(void **state) {
    uint64_t n_fail = 0;
    world w = {0};
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    for (int persistent = 0; persistent < 2; persistent++) {
        for (uint64_t n = 1;; n += n < 300 ? 1 : 7) {
            *f = (peri_fault){.fail_at = n, .persistent = persistent != 0};
            peri_status status = whole_life(&w);
            assert_int_equal(f->live, 0);
            if (f->calls < n) {
                assert_ok(status, w.err);
                break;
            }
            /* Lua collects and tries again, so a single failure may pass unseen. */
            if (status != PERI_OK) {
                n_fail++;
                assert_int_equal(status, PERI_E_NOMEM);
            }
        }
    }
    assert_true(n_fail > 100);
    peri_fault_alloc_remove();
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_scripts_are_stopped),
        cmocka_unit_test(reachable_globals_are_these),
        cmocka_unit_test(programs_behave_as_in_stock_lua),
        cmocka_unit_test(patterns_match_as_in_stock_lua),
        cmocka_unit_test(errors_carry_place_code_and_trace),
        cmocka_unit_test(err_tables_print_as_their_message),
        cmocka_unit_test(waits_reach_the_host_through_coroutines),
        cmocka_unit_test(a_waiting_coroutine_closes_its_variables),
        cmocka_unit_test(only_the_host_resumes_what_waits),
        cmocka_unit_test(slices_start_anew_at_each_wait),
        cmocka_unit_test(a_slice_inside_a_slice_ends_alone),
        cmocka_unit_test(a_nested_call_does_not_hide_the_end),
        cmocka_unit_test(random_numbers_follow_the_seed),
        cmocka_unit_test(modules_load_once_and_stay_inside),
        cmocka_unit_test(a_module_may_wait_while_it_loads),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return peri_run_tests(tests);
}
