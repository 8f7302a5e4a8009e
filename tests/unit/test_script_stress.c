/* SPDX-License-Identifier: MIT
 *
 * Scripts that close, drop, cancel and interrupt while an engine works for them: nobody may wait
 * for ever, nothing may be used after it is gone, and the neighbours must not notice. */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fault.h"
#include "rig.h"
#include "script_rig.h"

static peri_runtime *rt;

#define OPEN                                                                                       \
    "local p = require 'perigee'\n"                                                                \
    "local m <close> = assert(p.model('@MODEL@', { ctx = 512, sessions = 8, device = 'cpu' }))\n"

#define SAY                                                                                        \
    "local function say(seed, n)\n"                                                                \
    "  local s <close> = assert(m:session { seed = seed, temp = 1 })\n"                            \
    "  assert(s:feed('prompt ' .. seed))\n"                                                        \
    "  local t = {}\n"                                                                             \
    "  for ev in s:generate { max = n, ignore_eog = true } do t[#t + 1] = ev.id or ev.done end\n"  \
    "  return table.concat(t, ' ')\n"                                                              \
    "end\n"

/* Enough garbage that everything unreachable is collected. */
#define LITTER                                                                                     \
    "local function litter()\n"                                                                    \
    "  for i = 1, 3000 do local _ = { ('x'):rep(1000) } end\n"                                     \
    "end\n"

/* ---- handles ---- */

static void a_stream_keeps_its_session(void **state) {
    (void)state;
    assert_script(rt,
                  OPEN LITTER "local function begin()\n"
                              "  local s = assert(m:session { temp = 1 })\n"
                              "  assert(s:feed 'hello')\n"
                              "  return s:generate { max = 400, ignore_eog = true }\n"
                              "end\n"
                              "local stream, n, last = begin(), 0, nil\n"
                              "stream:next()\n"
                              "litter()\n"
                              "for ev in stream do n, last = n + 1, ev end\n"
                              "print(n, last.done)\n",
                  "400\tlength\n");
}

static void closing_a_stream_wakes_who_reads_it(void **state) {
    (void)state;
    assert_script(rt,
                  OPEN "local s <close> = assert(m:session { temp = 1 })\n"
                       "assert(s:feed 'hello')\n"
                       "for round = 1, 20 do\n"
                       "  local stream = s:generate { max = 3, ignore_eog = true }\n"
                       "  local reader = p.spawn(function()\n"
                       "    while stream:next() do end\n"
                       "    return 'ended'\n"
                       "  end)\n"
                       "  p.sleep(0)\n"
                       "  local _ = stream:close()\n"
                       "  assert(reader:wait() == 'ended')\n"
                       "end\n"
                       "print(s:n_tok() <= 512)\n",
                  "true\n");
}

static void a_session_closed_by_another_task_ends_what_it_does(void **state) {
    (void)state;
    assert_script(rt,
                  OPEN
                  "local counts = {}\n"
                  "for round = 1, 20 do\n"
                  "  local s = assert(m:session { temp = 1 })\n"
                  "  local t = p.spawn(function()\n"
                  "    local ok, err = s:feed(('word '):rep(90))\n"
                  "    if not ok then return err.code end\n"
                  "    local last\n"
                  "    for ev in s:generate { max = 50, ignore_eog = true } do last = ev.done end\n"
                  "    return last\n"
                  "  end)\n"
                  "  for i = 1, round // 2 do p.sleep(0) end\n"
                  "  s:close()\n"
                  "  local why, err = t:wait()\n"
                  "  why = why or tostring(err):match 'is closed'\n"
                  "  assert(why == 'cancelled' or why == 'error' or why == 'not_found' or\n"
                  "    why == 'length' or why == 'is closed', why)\n"
                  "end\n"
                  "local f = assert(m:session())\n"
                  "print(f:feed 'still there')\n",
                  "true\n");
}

/* Functions of the script that the reading of arguments could call. */
static void nothing_closes_an_object_while_its_arguments_are_read(void **state) {
    static const char *const ways[] = {
        "m:tokenize(setmetatable({ { text = 'a' } }, { __len = close }))",
        "m:tokenize { setmetatable({}, { __index = close }) }",
        "s:feed { setmetatable({}, { __index = close }) }",
        "s:feed(setmetatable({ 1 }, { __index = close, __len = close }))",
        "s:feed('a', setmetatable({}, { __index = close }))",
        "m:session(setmetatable({}, { __index = close }))",
        "s:set(setmetatable({}, { __index = close }))",
        "s:rewind(setmetatable({}, { __tostring = close, __name = 'x' }))",
        "local g = s:generate(setmetatable({ max = 2 }, { __index = shut })) g:next() g:next()",
        "local g = s:generate(setmetatable({ stop = 'a' }, { __index = shut }))\n"
        "local o = setmetatable({ max = 3 }, { __index = function() shut() g:close() end })\n"
        "g = s:generate(o) for ev in g do print(ev.done) end",
    };
    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        char text[1200];
        snprintf(text, sizeof text,
                 "local p = require 'perigee'\n"
                 "local m = assert(p.model('@MODEL@', { ctx = 64 }))\n"
                 "local s = assert(m:session())\n"
                 "s:feed 'hello'\n"
                 "local function close() s:close() m:close() return 'x' end\n"
                 "local function shut() close() end\n"
                 "local _, err = pcall(function()\n%s\nend)\n"
                 "p.sleep(0)\n"
                 "assert(not err or tostring(err):find('script.lua:8') or err.code, err)\n",
                 ways[i]);
        if (script_say(rt, text, (script_way){0})) fail_msg("%s: %s", ways[i], said.errors);
    }
}

/* ---- neighbours ---- */

static void assert_neighbours(const char *bad, uint32_t slice_ms, const char *want) {
    char text[4000], alone[sizeof said.out];
    int status = script_say(rt, OPEN SAY "for i = 1, 3 do print(say(i, 60)) end", (script_way){0});
    if (status) fail_msg("%s", said.errors);
    memcpy(alone, said.out, sizeof alone);
    snprintf(text, sizeof text,
             OPEN SAY "local bad = %s\n"
                      "local tasks = {}\n"
                      "for i = 1, 3 do tasks[i] = p.spawn(say, i, 60) end\n"
                      "p.sleep(0)\n"
                      "local t = p.spawn(bad)\n"
                      "for _, task in ipairs(tasks) do print((assert(task:wait()))) end\n"
                      "local _, err = t:wait()\n"
                      "error(tostring(err), 0)\n",
             bad);
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    status = script_say(rt, text, (script_way){.slice_ms = slice_ms});
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    assert_int_equal(status, 1);
    if (strcmp(said.out, alone))
        fail_msg("%s: beside it \"%s\", alone \"%s\"", bad, said.out, alone);
    if (!strstr(said.errors, want)) fail_msg("%s: \"%s\" is not in \"%s\"", bad, want, said.errors);
    if (b.tv_sec - a.tv_sec > 20)
        fail_msg("%s: took %ld s of processor time", bad, (long)(b.tv_sec - a.tv_sec));
}

static void a_bad_task_is_stopped_and_its_neighbours_say_what_they_say_alone(void **state) {
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* the signal that ends a slice is held back until the next system call */
#endif
    static const char over[] = "script.lua:10: script ran 200 ms without waiting";
    assert_neighbours("function() while true do end end", 200, over);
    assert_neighbours("function() while true do pcall(function() while true do end end) end end",
                      200, over);
    assert_neighbours("function() coroutine.wrap(function() while true do end end)() end", 200,
                      over);
    assert_neighbours("function() return ('a'):rep(40):find(('a*'):rep(40) .. 'b') end", 200, over);
    assert_neighbours("function() return table.move({}, 1, 1 << 40, 2) end", 200, over);
    assert_neighbours("function() local s <close> = assert(m:session()) s:feed 'x'\n"
                      "while true do end end",
                      200, "script.lua:11: script ran 200 ms without waiting");
    assert_neighbours(
        "function() local t = {} while true do t[#t + 1] = ('x'):rep(4096):rep(4096) end end",
        30000, "script.lua:10: script used up its");
}

/* ---- at random ---- */

/* ThreadSanitizer makes all of it twenty times as long. */
#ifdef __SANITIZE_THREAD__
#define ROUNDS "local ROUNDS = 2\n"
#else
#define ROUNDS "local ROUNDS = 12\n"
#endif

/* Twelve tasks do something with whatever there is, and forget most of it. */
static const char chaos[] = ROUNDS
    "local p = require 'perigee'\n"
    "local open = { ctx = 512, sessions = 8, device = 'cpu' }\n"
    "local function litter() for i = 1, 300 do local _ = { ('x'):rep(1000) } end end\n"
    "local models, sessions, streams, marks, tasks = {}, {}, {}, {}, {}\n"
    "local function any(list) return list[math.random(6)] end\n"
    "local function put(list, x) list[math.random(6)] = x end\n"
    "local function model()\n"
    "  local o = math.random(4) == 1 and { ctx = 64 * math.random(3), device = 'cpu' } or open\n"
    "  local m, err = p.model(math.random(9) == 1 and 'nowhere.gguf' or '@MODEL@', o)\n"
    "  if m then put(models, m) else assert(err.code) end\n"
    "end\n"
    "local acts = {\n"
    "  model,\n"
    "  function() local m = any(models) if m then put(sessions, (m:session { temp = 1 })) end "
    "end,\n"
    "  function() local m = any(models) if m then put(sessions, (m:session { temp = 1 })) end "
    "end,\n"
    "  function() local s = any(sessions) if s then s:feed(('word '):rep(math.random(40))) end "
    "end,\n"
    "  function() local s = any(sessions)\n"
    "    if s then put(streams, s:generate { max = math.random(60), ignore_eog = true }) end end,\n"
    "  function() local s = any(streams)\n"
    "    if s then for i = 1, math.random(20) do if not s:next() then break end end end end,\n"
    "  function() local s = any(streams) if s then s:close() end end,\n"
    "  function() local s = any(streams) if s then s:cancel() end end,\n"
    "  function() local s = any(sessions) if s then put(sessions, (s:fork())) end end,\n"
    "  function() local s = any(sessions) if s then put(marks, (s:mark())) end end,\n"
    "  function() local s, k = any(sessions), any(marks) if s and k then s:rewind(k) end end,\n"
    "  function() local s = any(sessions) if s then s:rewind(math.random(9)) end end,\n"
    "  function() local s = any(sessions) if s then s:close() end end,\n"
    "  function() local m = any(models) if m and math.random(4) == 1 then m:close() end end,\n"
    "  function() put(any { models, sessions, streams, marks } or marks, nil) end,\n"
    "  function() local s = any(sessions) if s then s:save('@DIR@/chaos') end end,\n"
    "  function() local m = any(models) if m then put(sessions, (m:restore('@DIR@/chaos'))) end "
    "end,\n"
    "  function() local s = any(sessions) if s then s:stats() s:tokens() end end,\n"
    "  function() p.sleep(math.random() / 500) end,\n"
    "  function() local t = tasks[math.random(12)] if t then t:cancel() end end,\n"
    "  litter,\n"
    "}\n"
    "local n_mistake = 0\n"
    "local function live(n)\n"
    "  for i = 1, n do\n"
    "    local ok, err = pcall(acts[math.random(#acts)])\n"
    "    if not ok then\n"
    "      n_mistake = n_mistake + 1\n"
    "      assert(tostring(err):find 'is closed' or tostring(err):find 'of another', err)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "model()\n"
    "for round = 1, ROUNDS do\n"
    "  for i = 1, 12 do tasks[i] = p.spawn(live, 40) end\n"
    "  for i = 1, 12 do\n"
    "    local _, err = tasks[i]:wait()\n"
    "    assert(not err or err.code == 'cancelled', err)\n"
    "  end\n"
    "end\n"
    "for _, s in pairs(streams) do s:close() end\n"
    "local last <close> = assert(p.model('@MODEL@', open))\n"
    "local s <close> = assert(last:session { temp = 0 })\n"
    "assert(s:feed 'prompt')\n"
    "local n = 0\n"
    "for ev in s:generate { max = 5, ignore_eog = true } do n = n + 1 end\n"
    "print(n)\n";

static void whatever_tasks_do_nothing_is_lost_or_stuck(void **state) {
    (void)state;
    peri_runtime_free(rt);
    peri_fault *f = peri_fault_alloc_install();
    rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 2, NULL);
    assert_script(rt, "print(1)", "1\n"); /* the runtime keeps something from its first script */
    assert_script(rt, chaos, "6\n");
    uint64_t held = f->live;
    assert_script(rt, chaos, "6\n");
    assert_int_equal(f->live, held);
    peri_runtime_free(rt);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
    rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 2, NULL);
}

/* ---- leaving ---- */

#define BUSY                                                                                       \
    OPEN "for i = 1, 4 do\n"                                                                       \
         "  p.spawn(function()\n"                                                                  \
         "    local s = assert(m:session { temp = 1, seed = i })\n"                                \
         "    assert(s:feed(('word '):rep(20 * i)))\n"                                             \
         "    for ev in s:generate { ignore_eog = true } do print(ev.id) end\n"                    \
         "  end)\n"                                                                                \
         "end\n"

static void an_interrupt_at_any_write_ends_what_is_generated(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s", script_write(BUSY "p.sleep(60)\n"));
    for (uint64_t at = 1; at < 60; at += 1 + at / 5) {
        peri_error err;
        int status;
        assert_ok(script_run(rt, path, (script_way){.interrupt_at = at}, &status, &err), err);
        assert_int_equal(status, 130);
        assert_string_equal(said.errors, "");
    }
}

static void a_script_that_fails_while_it_generates_ends(void **state) {
    (void)state;
    for (int wait_ms = 0; wait_ms < 20; wait_ms += 2) {
        char text[2000];
        snprintf(text, sizeof text, BUSY "p.sleep(0.0%02d)\nerror 'enough'\n", wait_ms);
        assert_int_equal(script_say(rt, text, (script_way){0}), 1);
        assert_non_null(strstr(said.errors, "script.lua:11: enough"));
    }
}

typedef struct nagger {
    long ns;
    atomic_bool is_over;
} nagger;

/* The first one may come before the script runs, and is forgotten then. */
static void *interrupt_later(void *user) {
    nagger *g = user;
    while (!atomic_load(&g->is_over)) {
        nanosleep(&(struct timespec){.tv_nsec = g->ns}, NULL);
        peri_script_interrupt(rt);
    }
    return NULL;
}

/* Also while the model is opened, and while nothing runs yet. */
static void an_interrupt_at_any_time_ends_the_script(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s", script_write(BUSY "p.sleep(60)\n"));
    for (int i = 0; i < 40; i++) {
        nagger g = {.ns = (long)(i % 20) * 1000000 + 7919};
        pthread_t thread;
        peri_error err;
        int status;
        assert_int_equal(pthread_create(&thread, NULL, interrupt_later, &g), 0);
        peri_status st = script_run(rt, path, (script_way){0}, &status, &err);
        atomic_store(&g.is_over, true);
        pthread_join(thread, NULL);
        assert_ok(st, err);
        assert_int_equal(status, 130);
        assert_string_equal(said.errors, "");
    }
}

static void many_quick_openings_and_closings(void **state) {
    (void)state;
    assert_script(rt,
                  "local p = require 'perigee'\n"
                  "local n = 0\n"
                  "for i = 1, 40 do\n"
                  "  local tasks = {}\n"
                  "  for k = 1, 3 do\n"
                  "    tasks[k] = p.spawn(function()\n"
                  "      local m <close> = assert(p.model('@MODEL@', { ctx = 64 * k }))\n"
                  "      local s = assert(m:session())\n"
                  "      if i % 2 == 0 then s:feed 'x' s:generate { max = 9 } end\n"
                  "      if i % 3 == 0 then s:close() end\n"
                  "      n = n + 1\n"
                  "    end)\n"
                  "  end\n"
                  "  if i % 4 == 0 then p.sleep(0) tasks[1]:cancel() tasks[2]:cancel() end\n"
                  "  for k = 1, 3 do tasks[k]:wait() end\n"
                  "end\n"
                  "print(n >= 100)\n",
                  "true\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_keeps_its_session),
        cmocka_unit_test(closing_a_stream_wakes_who_reads_it),
        cmocka_unit_test(a_session_closed_by_another_task_ends_what_it_does),
        cmocka_unit_test(nothing_closes_an_object_while_its_arguments_are_read),
        cmocka_unit_test(a_bad_task_is_stopped_and_its_neighbours_say_what_they_say_alone),
        cmocka_unit_test(whatever_tasks_do_nothing_is_lost_or_stuck),
        cmocka_unit_test(an_interrupt_at_any_write_ends_what_is_generated),
        cmocka_unit_test(a_script_that_fails_while_it_generates_ends),
        cmocka_unit_test(an_interrupt_at_any_time_ends_the_script),
        cmocka_unit_test(many_quick_openings_and_closings),
    };
    rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 2, NULL);
    int result = peri_run_tests(tests);
    peri_runtime_free(rt);
    rig_end();
    return result;
}
