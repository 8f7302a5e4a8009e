/* SPDX-License-Identifier: MIT
 *
 * Scripts from perigee.h: tasks, waiting, errors with their places, interrupts, and sessions of a
 * tiny random model on the CPU plugin. */
#include "harness.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/api_int.h"
#include "base/io.h"
#include "base/text.h"
#include "fault.h"
#include "perigee/perigee.h"
#include "rig.h"

static peri_runtime *rt;

/* What the program around the script sees and says. */
typedef struct around {
    peri_text out, errors, progress;
    const char *const *line; /* lines to be read, NULL ends them */
    int n_read;
    bool fails_writing, answer;
    uint64_t interrupt_at, interrupt_again_at; /* raise after so many writes */
    uint64_t n_write;
    uint32_t slice_ms; /* 0: long enough for the slowest machine */
} around;

static around now;

static peri_status write_text(void *user, int stream, const char *data, size_t size) {
    around *a = user;
    peri_text_add(stream == PERI_STDOUT ? &a->out : &a->errors, data, size);
    a->n_write++;
    if (a->n_write == a->interrupt_at || a->n_write == a->interrupt_again_at)
        peri_script_interrupt(rt);
    return a->fails_writing ? PERI_E_IO : PERI_OK;
}

static peri_status read_line(void *user, const char *prompt, const char **line) {
    around *a = user;
    (void)prompt;
    *line = a->line ? a->line[a->n_read] : NULL;
    if (*line) a->n_read++;
    if (*line && !strcmp(*line, "^C")) return PERI_E_CANCELLED;
    return PERI_OK;
}

static bool ask(void *user, const char *question) {
    around *a = user;
    (void)question;
    return a->answer;
}

static void progress(void *user, const char *path, uint64_t done, uint64_t total) {
    around *a = user;
    (void)path;
    peri_text_addf(&a->progress, "%d ", done == total);
}

static void forget(void) {
    peri_text_fini(&now.out);
    peri_text_fini(&now.errors);
    peri_text_fini(&now.progress);
    memset(&now, 0, sizeof now);
}

static int forget_state(void **state) {
    (void)state;
    forget();
    return 0;
}

static const char *text_of(const peri_text *t) {
    return t->data ? t->data : "";
}

/* Replace @MODEL@ by a tiny model's path. */
static const char *script_file(const char *text) {
    static char path[300];
    char model[300];
    peri_text b = {0};
    snprintf(model, sizeof model, "%s/tiny.gguf", rig_dir());
    if (strstr(text, "@MODEL@") && access(model, R_OK)) rig_tiny("tiny.gguf", "llama", 0, 7);
    for (const char *at = text; *at;) {
        const char *next = strstr(at, "@MODEL@");
        peri_text_add(&b, at, next ? (size_t)(next - at) : strlen(at));
        if (!next) break;
        peri_text_add_str(&b, model);
        at = next + 7;
    }
    snprintf(path, sizeof path, "%s", rig_write("script.lua", b.data ? b.data : "", b.size));
    peri_text_fini(&b);
    return path;
}

static peri_status run_file(const char *path, int *status, peri_error *err) {
    char grant[300];
    snprintf(grant, sizeof grant, "fs.write=%s", rig_dir());
    char read_grant[300];
    snprintf(read_grant, sizeof read_grant, "fs.read=%s", rig_dir());
    const char *allow[] = {grant, read_grant};
    peri_script_options o = {
        .size = sizeof o,
        .entry = path,
        .allow = allow,
        .n_allow = 2,
        .slice_ms = now.slice_ms ? now.slice_ms : 20000,
        .seed = 42,
        .host = {&now, write_text, read_line, ask, progress},
    };
    return peri_script_run(rt, &o, status, err);
}

/* Run a script; its exit status.  What it wrote is in now. */
static int run(const char *text) {
    peri_error err;
    int status = -1;
    assert_ok(run_file(script_file(text), &status, &err), err);
    return status;
}

/* Expected texts name the script "@". */
static void assert_out(const char *want) {
    peri_text b = {0};
    char path[300];
    snprintf(path, sizeof path, "%s/script.lua", rig_dir());
    for (const char *at = want; *at; at++) {
        if (*at == '@')
            peri_text_add_str(&b, path);
        else
            peri_text_add(&b, at, 1);
    }
    bool is_same = !strcmp(text_of(&now.out), text_of(&b));
    peri_text_fini(&b);
    if (!is_same)
        fail_msg("found \"%s\", expected \"%s\"; errors: %s", text_of(&now.out), want,
                 text_of(&now.errors));
}

/* One model was loaded.  What came while the thread was busy is told at once, so the beginning may
 * be missing. */
static void assert_one_load(void) {
    const char *s = text_of(&now.progress);
    if (strcmp(s, "0 1 ") && strcmp(s, "1 ")) fail_msg("progress \"%s\"", s);
}

static void assert_reported(const char *fragment) {
    if (!strstr(text_of(&now.errors), fragment))
        fail_msg("\"%s\" is not in \"%s\"", fragment, text_of(&now.errors));
}

static void assert_runs(const char *text, const char *want) {
    int status = run(text);
    assert_out(want);
    assert_string_equal(text_of(&now.errors), "");
    assert_int_equal(status, 0);
    forget();
}

static void assert_fails(const char *text, const char *fragment) {
    int status = run(text);
    assert_reported(fragment);
    assert_int_equal(status, 1);
    forget();
}

/* ---- tasks ---- */

static void tasks_take_turns_where_they_wait(void **state) {
    (void)state;
    assert_runs("local p = require 'perigee'\n"
                "local function say(name, first)\n"
                "  p.sleep(first)\n"
                "  for i = 1, 3 do print(name .. i); p.sleep(0.02) end\n"
                "  return name, 7\n"
                "end\n"
                "local a, b = p.spawn(say, 'a', 0), p.spawn(say, 'b', 0.01)\n"
                "print('begin')\n"
                "print(a:wait())\n"
                "print(b:wait())\n"
                "print(a:status(), b:status())\n",
                "begin\na1\nb1\na2\nb2\na3\nb3\na\t7\nb\t7\ndone\tdone\n");
}

static void a_script_lives_as_long_as_its_tasks(void **state) {
    (void)state;
    assert_runs("local p = require 'perigee'\n"
                "p.spawn(function() p.sleep(0.02) print 'late' end)\n"
                "print 'main'\n",
                "main\nlate\n");
}

static void waiting_gives_results_or_nil_and_the_error(void **state) {
    (void)state;
    assert_runs("local p = require 'perigee'\n"
                "local t = p.spawn(function() error 'broken' end)\n"
                "local ok, err = t:wait()\n"
                "print(ok, err, err.message, t:status())\n"
                "local u = p.spawn(function() error { code = 'mine', message = 'm' } end)\n"
                "ok, err = u:wait()\n"
                "print(ok, err.code)\n",
                "nil\t@:2: broken\t@:2: broken\tfailed\nnil\tmine\n");
}

static void all_waits_for_each(void **state) {
    (void)state;
    assert_runs("local p = require 'perigee'\n"
                "local function after(s, v) p.sleep(s) return v end\n"
                "local r = p.all { p.spawn(after, 0.02, 'x'), p.spawn(after, 0.01, 'y') }\n"
                "print(r[1], r[2])\n"
                "local slow = p.spawn(after, 60, 'z')\n"
                "local ok, err = p.all { p.spawn(error, 'no', 0), slow }\n"
                "print(ok, err)\n"
                "p.sleep(0)\n"
                "print(slow:wait())\n",
                "x\ty\nnil\tno\nnil\tthe task was cancelled\n");
}

static void cancelling_closes_variables(void **state) {
    (void)state;
    assert_runs(
        "local p = require 'perigee'\n"
        "local function closer(name)\n"
        "  return setmetatable({}, { __close = function() print('close ' .. name) end })\n"
        "end\n"
        "local t = p.spawn(function()\n"
        "  local a <close> = closer 'a'\n"
        "  local co = coroutine.wrap(function() local b <close> = closer 'b' p.sleep(60) end)\n"
        "  co()\n"
        "end)\n"
        "p.sleep(0.01)\n"
        "t:cancel()\n"
        "print(t:wait())\n"
        "local u = p.spawn(function() print 'never' end)\n"
        "u:cancel()\n"
        "print(u:wait())\n",
        "close b\nclose a\nnil\tthe task was cancelled\nnil\tthe task was cancelled\n");
}

static void an_error_that_nobody_asks_for_is_reported(void **state) {
    (void)state;
    int status = run("local p = require 'perigee'\n"
                     "p.spawn(function()\n"
                     "  local x = nil\n"
                     "  x.y = 1\n"
                     "end)\n"
                     "p.sleep(0.03)\n"
                     "print 'goes on'\n");
    assert_out("goes on\n");
    assert_reported("script.lua:4:");
    assert_reported("in function");
    assert_int_equal(status, 1);
    forget();
    assert_fails("error 'main failed'", "script.lua:1: main failed");
}

static void stuck_tasks_are_a_deadlock_with_their_lines(void **state) {
    (void)state;
    int status = run("local p = require 'perigee'\n"
                     "local a, b\n"
                     "a = p.spawn(function()\n"
                     "  p.sleep(0)\n"
                     "  b:wait()\n"
                     "end)\n"
                     "b = p.spawn(function()\n"
                     "  a:wait()\n"
                     "end)\n"
                     "a:wait()\n");
    assert_reported("script.lua:5 waits");
    assert_reported("script.lua:8 waits");
    assert_reported("script.lua:10 waits");
    assert_int_equal(status, 1);
    forget();
}

static void mistakes_name_the_line_of_the_caller(void **state) {
    (void)state;
    assert_fails("local p = require 'perigee'\nlocal x = 1\np.spawn(x)",
                 "script.lua:3: spawn: found number");
    assert_fails("local p = require 'perigee'\np.sleep(-1)", "script.lua:2: sleep: found -1");
    assert_fails("local p = require 'perigee'\np.spawn(function() end):wait(p.all(5))",
                 "script.lua:2: all: found number");
    assert_fails("local p = require 'perigee'\np.model('x.gguf', { ctxt = 1 })",
                 "script.lua:2: model: unknown key \"ctxt\"; did you mean \"ctx\"?");
    assert_fails("local p = require 'perigee'\np.model('x.gguf', { ctx = 'many' })",
                 "script.lua:2: model: ctx: found string, expected a whole number");
    assert_fails("coroutine.yield(1)", "attempt to yield from outside a coroutine");
}

static void waiting_inside_a_comparison_is_refused(void **state) {
    (void)state;
    assert_fails("local p = require 'perigee'\n"
                 "table.sort({ 3, 2, 1 }, function(a, b) p.sleep(0) return a < b end)\n",
                 "cannot wait here");
}

/* ---- the program around ---- */

static void exit_status_is_what_main_returns(void **state) {
    (void)state;
    assert_int_equal(run("return 3"), 3);
    forget();
    assert_int_equal(run("return true"), 0);
    forget();
    assert_int_equal(run("return false"), 1);
    forget();
    assert_int_equal(run("return {}"), 0);
    forget();
}

static void what_cannot_start_says_why(void **state) {
    (void)state;
    peri_error err;
    int status;
    assert_int_equal(run_file("nowhere/x.lua", &status, &err), PERI_E_NOT_FOUND);
    assert_error(&err, PERI_E_NOT_FOUND, "nowhere/x.lua");
    assert_int_equal(run_file(script_file("x = = 2"), &status, &err), PERI_E_CORRUPT);
    assert_error(&err, PERI_E_CORRUPT, "script.lua:1:");
    assert_true(run_file("nodriver", &status, &err) != PERI_OK);
    assert_non_null(strstr(err.text, "nodriver"));
    assert_true(run_file("../x", &status, &err) != PERI_OK);
    forget();
}

static void a_failing_output_ends_the_script(void **state) {
    (void)state;
    now.fails_writing = true;
    assert_int_equal(run("local p = require 'perigee'\n"
                         "print 'lost'\n"
                         "p.sleep(60)\n"),
                     1);
    forget();
}

static void an_interrupt_ends_a_script_and_closes_its_variables(void **state) {
    (void)state;
    now.interrupt_at = 1;
    assert_int_equal(
        run("local p = require 'perigee'\n"
            "local x <close> = setmetatable({}, { __close = function() print 'closed' end })\n"
            "print 'go'\n"
            "p.sleep(60)\n"
            "print 'never'\n"),
        130);
    assert_out("go\nclosed\n");
    forget();
}

static void an_interrupt_before_the_script_is_forgotten(void **state) {
    (void)state;
    peri_script_interrupt(rt);
    assert_runs("print 'on'", "on\n");
}

/* ThreadSanitizer holds signals back until the next system call, so a slice has no end there. */
#ifdef __SANITIZE_THREAD__
#define SLICES_END false
#else
#define SLICES_END true
#endif

static void a_long_slice_ends_with_its_line(void **state) {
    (void)state;
    if (!SLICES_END) skip();
    now.slice_ms = 100;
    assert_fails("local n = 0\nwhile true do\n  n = n + 1\nend", "without waiting");
}

/* ---- drivers ---- */

/* Run the text as the driver "own" of a script folder of its own. */
static int run_driver(const char *text, const char *arguments) {
    char folder[300], path[400];
    peri_error err;
    int status = -1;
    peri_runtime *shared = rt;
    snprintf(folder, sizeof folder, "%s/scripts", rig_dir());
    mkdir(folder, 0700);
    snprintf(path, sizeof path, "%s/arch", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/perigee", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/perigee/cli", folder);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/perigee/cli/own.lua", folder);
    assert_ok(peri_file_write(path, text, strlen(text), &err), err);
    rt = rig_runtime(PERI_LIBRARY_DIR, folder, 1, NULL);
    peri_script_options o = {.size = sizeof o,
                             .entry = "own",
                             .arguments = arguments,
                             .seed = 9,
                             .host = {&now, write_text, read_line, ask, progress}};
    peri_status st = peri_script_run(rt, &o, &status, &err);
    peri_runtime_free(rt);
    rt = shared;
    unlink(path);
    for (char *slash = strrchr(path, '/'); slash && strlen(path) > strlen(folder);
         slash = strrchr(path, '/')) {
        *slash = '\0';
        rmdir(path);
    }
    snprintf(path, sizeof path, "%s/arch", folder);
    rmdir(path);
    rmdir(folder);
    assert_ok(st, err);
    return status;
}

#define HOST "local host = require 'perigee.sys.host'\nlocal loop = require 'perigee.sys.loop'\n"

static void a_driver_gets_its_arguments(void **state) {
    (void)state;
    int status = run_driver(HOST "return function(a)\n"
                                 "  host.write(1, a.name .. ' ' .. #a.list .. ' ' .. host.seed)\n"
                                 "  host.write(2, 'to the other')\n"
                                 "  return 4\n"
                                 "end\n",
                            "{\"name\": \"x\", \"list\": [1, 2]}");
    assert_out("x 2 9");
    assert_string_equal(text_of(&now.errors), "to the other");
    assert_int_equal(status, 4);
}

static void lines_are_read_while_tasks_run(void **state) {
    (void)state;
    static const char *const lines[] = {"one", "^C", "two", NULL};
    now.line = lines;
    int status = run_driver(
        HOST "return { main = function()\n"
             "  local n = 0\n"
             "  local t = loop.spawn(function() loop.sleep(0.005) n = n + 1 end)\n"
             "  for i = 1, 4 do\n"
             "    local line, err = host.read_line('> ')\n"
             "    host.write(1, tostring(line) .. ' ' .. (err and err.code or '') .. '\\n')\n"
             "  end\n"
             "  t:wait()\n"
             "  host.write(1, tostring(n))\n"
             "end }\n",
        NULL);
    assert_out("one \nnil cancelled\ntwo \nnil \n1");
    assert_int_equal(status, 0);
}

static void a_driver_deals_with_interrupts(void **state) {
    (void)state;
    now.interrupt_at = 1;
    int status = run_driver(HOST "return function()\n"
                                 "  local woken = false\n"
                                 "  host.on_interrupt(function() woken = true end)\n"
                                 "  host.write(1, 'go ')\n"
                                 "  loop.sleep(0.02)\n"
                                 "  host.write(1, tostring(woken))\n"
                                 "end\n",
                            NULL);
    assert_out("go true");
    assert_int_equal(status, 0);
    forget();
    now.interrupt_at = 1;
    now.interrupt_again_at = 2;
    status = run_driver(HOST "return function()\n"
                             "  host.on_interrupt(function()\n"
                             "    host.write(1, 'busy ')\n"
                             "    loop.sleep(60)\n"
                             "  end)\n"
                             "  host.write(1, 'go ')\n"
                             "  loop.sleep(60)\n"
                             "end\n",
                        NULL);
    assert_out("go busy ");
    assert_int_equal(status, 130);
}

static void a_wrong_driver_says_what_is_wrong(void **state) {
    (void)state;
    peri_error err = {0, ""};
    int status;
    peri_script_options o = {.size = sizeof o, .entry = "no_such"};
    assert_true(peri_script_run(rt, &o, &status, &err) != PERI_OK);
    assert_non_null(strstr(err.text, "no_such"));
    o.entry = NULL;
    assert_int_equal(peri_script_run(rt, &o, &status, &err), PERI_E_INVALID);
    o.entry = "test";
    o.arguments = "{\"files\": [}";
    assert_true(peri_script_run(rt, &o, &status, &err) != PERI_OK);
    assert_non_null(strstr(err.text, "line 1, column 12"));
}

/* ---- the driver of specs ---- */

static int run_specs(const char *text) {
    char arguments[400];
    peri_error err;
    int status = -1;
    snprintf(arguments, sizeof arguments, "{\"files\": [\"%s\"]}",
             rig_write("a_spec.lua", text, strlen(text)));
    peri_script_options o = {.size = sizeof o,
                             .entry = "test",
                             .arguments = arguments,
                             .host = {&now, write_text, read_line, ask, progress}};
    assert_ok(peri_script_run(rt, &o, &status, &err), err);
    return status;
}

#define SPEC "local lu = require 'luaunit'\nlocal p = require 'perigee'\nlocal T = {}\n"

static void specs_pass_fail_and_are_missed(void **state) {
    (void)state;
    if (access("/usr/share/lua/5.4/luaunit.lua", R_OK)) skip();
    int status =
        run_specs(SPEC "function T.test_a() p.sleep(0.01) lu.assertEquals(1, 1) end\nreturn T");
    if (status) fail_msg("%d: %s%s", status, text_of(&now.out), text_of(&now.errors));
    assert_non_null(strstr(text_of(&now.out), "1 test"));
    forget();
    status = run_specs(SPEC "function T.test_a() lu.assertEquals(1, 2) end\nreturn T");
    assert_int_equal(status, 1);
    assert_non_null(strstr(text_of(&now.out), "a_spec.lua:4: expected: 2, actual: 1"));
    forget();
    assert_int_equal(run_specs(SPEC "return T"), 77);
    forget();
    assert_int_equal(run_specs(SPEC "return 5"), 1);
    assert_reported("a_spec.lua: returned number, expected a table of tests");
    forget();
    assert_int_equal(run_specs(SPEC "return ="), 1);
    assert_reported("a_spec.lua:4:");
}

static void a_spec_may_be_slow_but_its_tests_may_not(void **state) {
    (void)state;
    if (!SLICES_END || access("/usr/share/lua/5.4/luaunit.lua", R_OK)) skip();
    int status = run_specs(SPEC "function T.test_a() while true do end end\nreturn T");
    assert_int_equal(status, 1);
    assert_reported("without waiting");
}

/* ---- models ---- */

#define OPEN                                                                                       \
    "local p = require 'perigee'\n"                                                                \
    "local m <close> = assert(p.model('@MODEL@', { ctx = 256, sessions = 8, device = 'cpu' }))\n"

static void a_model_tells_what_it_is(void **state) {
    (void)state;
    int status =
        run(OPEN "local i = m.info\n"
                 "print(i.architecture, i.n_ctx, i.n_vocab, i.device, i.path == '@MODEL@')\n"
                 "i.n_ctx = 1\n"
                 "print(m.info.n_ctx)\n"
                 "local ids = m:tokenize('hello', { bos = false })\n"
                 "print(m:detokenize(ids))\n");
    assert_out("llama\t256\t300\tcpu\ttrue\n256\nhello\n");
    assert_one_load();
    assert_int_equal(status, 0);
    forget();
}

static void a_missing_model_is_nil_and_an_error(void **state) {
    (void)state;
    assert_runs("local p = require 'perigee'\n"
                "local m, err = p.model('nowhere.gguf')\n"
                "print(m, err.code, tostring(err):find('nowhere.gguf', 1, true) ~= nil)\n",
                "nil\tnot_found\ttrue\n");
}

#define SAY                                                                                        \
    "local function say(m, seed, prompt)\n"                                                        \
    "  local s <close> = assert(m:session { seed = seed, temp = 1 })\n"                            \
    "  assert(s:feed(prompt))\n"                                                                   \
    "  local t = {}\n"                                                                             \
    "  for ev in s:generate { max = 12, ignore_eog = true } do t[#t + 1] = ev.id or ev.done end\n" \
    "  return table.concat(t, ' ')\n"                                                              \
    "end\n"

static void sessions_side_by_side_say_what_they_say_alone(void **state) {
    (void)state;
    char alone[4000];
    int status = run(OPEN SAY "for i = 1, 6 do print(say(m, i, 'prompt ' .. i)) end");
    if (status) fail_msg("%s", text_of(&now.errors));
    snprintf(alone, sizeof alone, "%s", text_of(&now.out));
    assert_non_null(strstr(alone, "length"));
    forget();
    status = run(OPEN SAY "local tasks = {}\n"
                          "for i = 1, 6 do tasks[i] = p.spawn(say, m, i, 'prompt ' .. i) end\n"
                          "for _, line in ipairs(assert(p.all(tasks))) do print(line) end\n");
    assert_out(alone);
    assert_int_equal(status, 0);
    forget();
}

static void the_same_file_is_opened_once(void **state) {
    (void)state;
    int status = run(OPEN "local n <close> = assert(p.model('@MODEL@', { ctx = 256, sessions = 8, "
                          "device = 'cpu' }))\n"
                          "m:close()\n"
                          "local s <close> = assert(n:session())\n"
                          "print(s:feed { 1, 2, 3 })\n"
                          "assert(s:feed {} and s:feed '')\n"
                          "print(s:n_tok())\n");
    assert_out("true\n3\n");
    assert_one_load();
    assert_int_equal(status, 0);
    forget();
}

static void sessions_fork_mark_rewind_save_and_restore(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "local path = '%s/saved'\n", rig_dir());
    peri_text b = {0};
    peri_text_add_str(&b, path);
    peri_text_add_str(&b, OPEN "local function rest(s)\n"
                               "  local t = {}\n"
                               "  for ev in s:generate { max = 5, ignore_eog = true } do t[#t + 1] "
                               "= ev.id or ev.done end\n"
                               "  return table.concat(t, ' ')\n"
                               "end\n"
                               "local s <close> = assert(m:session { temp = 1, seed = 5 })\n"
                               "assert(s:feed { 1, 2, 3, 4 })\n"
                               "local mark = assert(s:mark())\n"
                               "assert(s:save(path))\n"
                               "local f <close> = assert(s:fork())\n"
                               "local first = rest(s)\n"
                               "print(first ~= rest(f))\n"
                               "assert(s:rewind(mark))\n"
                               "print(rest(s) == first)\n"
                               "assert(s:rewind(4))\n"
                               "print(rest(s) == first)\n"
                               "local r <close> = assert(m:restore(path))\n"
                               "print(rest(r) == first)\n"
                               "print(#assert(s:tokens()), assert(s:stats()).n_tok)\n"
                               "print(s:rewind(1000))\n");
    int status = run(b.data);
    peri_text_fini(&b);
    if (status) fail_msg("%s", text_of(&now.errors));
    assert_non_null(strstr(text_of(&now.out), "true\ntrue\ntrue\ntrue\n9\t9\nnil\t"));
    forget();
}

static void a_model_is_looked_for_beside_the_script(void **state) {
    (void)state;
    int status = run("local p = require 'perigee' -- @MODEL@\n"
                     "print(assert(p.model('tiny.gguf', { ctx = 64 })).info.n_ctx)\n");
    assert_out("64\n");
    assert_int_equal(status, 0);
}

static void a_cancelled_opening_leaves_nothing(void **state) {
    (void)state;
    assert_runs("local p = require 'perigee'\n"
                "local t = p.spawn(p.model, '@MODEL@', { ctx = 64 })\n"
                "p.sleep(0)\n"
                "t:cancel()\n"
                "print(select('#', t:wait()), (select(2, t:wait())))\n"
                "print(assert(p.model('@MODEL@', { ctx = 64 })).info.n_ctx)\n",
                "2\tthe task was cancelled\n64\n");
}

static void leaving_the_loop_ends_the_generation(void **state) {
    (void)state;
    assert_runs(
        "local p = require 'perigee'\n"
        "local m <close> = assert(p.model('@MODEL@', { ctx = 8192, sessions = 1 }))\n"
        "local s <close> = assert(m:session { temp = 1 })\n"
        "assert(s:feed { 1, 2 })\n"
        "local n = 0\n"
        "for ev in s:generate { ignore_eog = true } do n = n + 1 if n == 3 then break end end\n"
        "local after = assert(s:n_tok())\n"
        "p.sleep(0.05)\n"
        "print(n, after == s:n_tok(), after < 8000)\n"
        "local stream = s:generate { ignore_eog = true }\n"
        "stream:next()\n"
        "stream:cancel()\n"
        "local last\n"
        "for ev in stream do last = ev end\n"
        "print(last.done, last.n_tok == s:n_tok(), stream:next())\n",
        "3\ttrue\ttrue\ncancelled\ttrue\n");
}

static void generation_mistakes_name_line_and_nearest(void **state) {
    (void)state;
    assert_fails(OPEN "local s = m:session()\ns:generate { maxx = 1 }",
                 "script.lua:4: generate: unknown key \"maxx\"; did you mean \"max\"?");
    assert_fails(OPEN "m:session { tempp = 1 }",
                 "script.lua:3: sampling: tempp: no such sampling parameter; did you mean temp?");
    assert_fails(OPEN "m:session { temp = -1 }", "script.lua:3: sampling: ");
    assert_fails(OPEN "local s = m:session()\ns:close()\ns:feed('x')",
                 "script.lua:5: the session is closed");
}

static void log_probabilities_come_with_their_tokens(void **state) {
    (void)state;
    assert_runs(OPEN "local s <close> = assert(m:session { temp = 0 })\n"
                     "assert(s:feed { 1, 2 })\n"
                     "for ev in s:generate { max = 1, logprobs = 3, ignore_eog = true } do\n"
                     "  if not ev.done then\n"
                     "    print(#ev.top, ev.top[1].id == ev.id, ev.logprob == ev.top[1].logprob)\n"
                     "    print(ev.top[1].logprob >= ev.top[2].logprob, type(ev.top[1].text))\n"
                     "  end\n"
                     "end\n",
                "3\ttrue\ttrue\ntrue\tstring\n");
}

/* ---- memory ---- */

/* Run the script with its n-th allocation failing, alone or with all later ones; true when there
 * was an n-th.  Nothing may be left but the signal that the runtime keeps from its first script. */
static bool fail_one(peri_fault *fault, const char *path, uint64_t n, bool is_persistent) {
    peri_error err = {0, ""};
    int status = -1;
    uint64_t before = fault->live;
    fault->calls = 0;
    fault->fail_at = n;
    fault->persistent = is_persistent;
    peri_status st = run_file(path, &status, &err);
    bool was_reached = fault->calls >= n;
    fault->fail_at = 0;
    fault->persistent = false;
    if (st) assert_true(*err.text);
    if (is_persistent && was_reached) assert_true(st || status != 0);
    if (!st && status == 0) assert_string_equal(text_of(&now.out), "done\n");
    forget();
    if (fault->live > before + 1)
        fail_msg("call %llu: %llu blocks are left", (unsigned long long)n,
                 (unsigned long long)(fault->live - before));
    return was_reached;
}

/* The first `dense` allocations one by one, the others with growing gaps. */
static void fail_each(const char *text, uint64_t dense, uint64_t at_least) {
    char path[300];
    snprintf(path, sizeof path, "%s", script_file(text));
    peri_runtime_free(rt);
    rt = NULL;
    peri_fault *fault = peri_fault_alloc_install();
    rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 1, NULL);
    fail_one(fault, path, 0, false);
    uint64_t n = 1;
    while (fail_one(fault, path, n, n % 2) && n < 1000000)
        n += n < dense ? 1 : 1 + n / 37;
    if (n <= at_least) fail_msg("only %llu allocations", (unsigned long long)n);
    peri_runtime_free(rt);
    assert_int_equal(fault->live, 0);
    peri_fault_alloc_remove();
    rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 2, NULL);
}

static void every_failing_allocation_of_tasks_ends_cleanly(void **state) {
    (void)state;
    fail_each("local p = require 'perigee'\n"
              "local t = p.spawn(function() p.sleep(0) return p.json.encode { 1 } end)\n"
              "assert(t:wait() == '[1]')\n"
              "print 'done'\n",
              300, 1000);
}

static void failing_allocations_around_a_model_end_cleanly(void **state) {
    (void)state;
    fail_each(
        OPEN
        "local s <close> = assert(m:session { temp = 1 })\n"
        "assert(s:feed 'hello there')\n"
        "local f <close> = assert(s:fork())\n"
        "local t = p.spawn(f.complete, f, 'x', { max = 3 })\n"
        "for ev in s:generate { max = 3, logprobs = 2 } do assert(not ev.error, ev.error) end\n"
        "assert(t:wait())\n"
        "print 'done'\n",
        20, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(tasks_take_turns_where_they_wait, forget_state),
        cmocka_unit_test_teardown(a_script_lives_as_long_as_its_tasks, forget_state),
        cmocka_unit_test_teardown(waiting_gives_results_or_nil_and_the_error, forget_state),
        cmocka_unit_test_teardown(all_waits_for_each, forget_state),
        cmocka_unit_test_teardown(cancelling_closes_variables, forget_state),
        cmocka_unit_test_teardown(an_error_that_nobody_asks_for_is_reported, forget_state),
        cmocka_unit_test_teardown(stuck_tasks_are_a_deadlock_with_their_lines, forget_state),
        cmocka_unit_test_teardown(mistakes_name_the_line_of_the_caller, forget_state),
        cmocka_unit_test_teardown(waiting_inside_a_comparison_is_refused, forget_state),
        cmocka_unit_test_teardown(exit_status_is_what_main_returns, forget_state),
        cmocka_unit_test_teardown(what_cannot_start_says_why, forget_state),
        cmocka_unit_test_teardown(a_failing_output_ends_the_script, forget_state),
        cmocka_unit_test_teardown(an_interrupt_ends_a_script_and_closes_its_variables,
                                  forget_state),
        cmocka_unit_test_teardown(an_interrupt_before_the_script_is_forgotten, forget_state),
        cmocka_unit_test_teardown(a_long_slice_ends_with_its_line, forget_state),
        cmocka_unit_test_teardown(a_driver_gets_its_arguments, forget_state),
        cmocka_unit_test_teardown(lines_are_read_while_tasks_run, forget_state),
        cmocka_unit_test_teardown(a_driver_deals_with_interrupts, forget_state),
        cmocka_unit_test_teardown(a_wrong_driver_says_what_is_wrong, forget_state),
        cmocka_unit_test_teardown(specs_pass_fail_and_are_missed, forget_state),
        cmocka_unit_test_teardown(a_spec_may_be_slow_but_its_tests_may_not, forget_state),
        cmocka_unit_test_teardown(a_model_tells_what_it_is, forget_state),
        cmocka_unit_test_teardown(a_missing_model_is_nil_and_an_error, forget_state),
        cmocka_unit_test_teardown(sessions_side_by_side_say_what_they_say_alone, forget_state),
        cmocka_unit_test_teardown(the_same_file_is_opened_once, forget_state),
        cmocka_unit_test_teardown(sessions_fork_mark_rewind_save_and_restore, forget_state),
        cmocka_unit_test_teardown(a_model_is_looked_for_beside_the_script, forget_state),
        cmocka_unit_test_teardown(a_cancelled_opening_leaves_nothing, forget_state),
        cmocka_unit_test_teardown(leaving_the_loop_ends_the_generation, forget_state),
        cmocka_unit_test_teardown(generation_mistakes_name_line_and_nearest, forget_state),
        cmocka_unit_test_teardown(log_probabilities_come_with_their_tokens, forget_state),
        cmocka_unit_test_teardown(every_failing_allocation_of_tasks_ends_cleanly, forget_state),
        cmocka_unit_test_teardown(failing_allocations_around_a_model_end_cleanly, forget_state),
    };
    rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 2, NULL);
    int result = peri_run_tests(tests);
    peri_runtime_free(rt);
    forget();
    rig_end();
    return result;
}
