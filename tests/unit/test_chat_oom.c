/* SPDX-License-Identifier: MIT
 *
 * One chat in which the bundled model calls a tool, again and again, each time with another
 * allocation failing: once, with the next, or with all that follow.  Every run ends by itself, in
 * the answer or in an error that says so, and leaves nothing behind; the runtime goes on working.
 *
 * PERI_OOM_STRIDE=1 fails each allocation (./check --long, a quarter of an hour), the three ways
 * below in turn.  A chat makes 33,000 allocations in 20 ms, so that a larger stride n (17 without
 * it) stands for SPREAD n. */
#include "harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault.h"
#include "perigee/perigee.h"
#include "rig.h"
#include "script_rig.h"

#define MODEL PERI_SOURCE_DIR "/examples/demo-model/perigee-demo.gguf"

enum { SPREAD = 41 };

/* The tool's own failure may reach the model instead of the number. */
static const char script[] =
    "local p = require 'perigee'\n"
    "local number, told = '48213', false\n"
    "local tool = p.tool {\n"
    "  name = 'read_file', description = 'Read a text file.',\n"
    "  parameters = { path = 'string' },\n"
    "  run = function(args) return args.path .. ': The secret number is ' .. number .. '.' end,\n"
    "}\n"
    "local chat <close> = assert(p.chat {\n"
    "  from = '" MODEL "', system = 'You are a helpful assistant.',\n"
    "  parameters = { temp = 0, ctx = 512 }, tools = { tool } })\n"
    "local text\n"
    "for ev in chat:send('What number is in the file /notes/number.txt?') do\n"
    "  if ev.type == 'result' then told = told or ev.error or ev.text:find(number, 1, true) end\n"
    "  if ev.type == 'done' then text = ev.text end\n"
    "end\n"
    "assert(told, 'the tool was not called')\n"
    "assert(text and #text > 0, 'no answer')\n"
    "print 'done'\n";

static uint64_t current; /* the call that fails, for the report of a hang */

static void on_alarm(int number) {
    char text[80];
    (void)number;
    int n = snprintf(text, sizeof text, "allocation %llu failed: the chat hangs\n",
                     (unsigned long long)current);
    if (write(2, text, (size_t)n) < 0) _exit(2);
    _exit(1);
}

/* One chat; what it wrote is in said. */
static peri_status talk(peri_runtime *rt, const char *path, int *status, peri_error *err) {
    return script_run(rt, path, (script_way){0}, status, err);
}

static bool says_done(void) {
    return !strcmp(said.out, "done\n");
}

static void assert_works(peri_runtime *rt, const char *path, const char *when) {
    peri_error err;
    int status;
    assert_ok(talk(rt, path, &status, &err), err);
    if (status || !says_done()) fail_msg("%s: status %d: %s", when, status, said.errors);
}

/* ONCE: Lua collects its garbage and tries again, C code gives up.  TWICE: Lua gives up too, and
 * everything after it finds memory again.  FOR_GOOD: cleaning up must do without. */
typedef enum way { ONCE, TWICE, FOR_GOOD, N_WAY } way;
static const char *const way_names[] = {"", ", and the next", ", and all later ones"};

/* true when there was an n-th allocation. */
static bool fail_one(peri_fault *f, peri_runtime *rt, const char *path, uint64_t n, way how) {
    peri_error err = {0, ""};
    int status = -1;
    uint64_t held = f->live;
    current = n;
    alarm(300);
    f->calls = 0;
    f->fail_at = n;
    f->n_more = how == TWICE;
    f->persistent = how == FOR_GOOD;
    peri_status st = talk(rt, path, &status, &err);
    bool was_reached = f->calls >= n;
    f->fail_at = 0;
    alarm(0);
    const char *told = st ? err.text : said.errors;
    bool is_clean = (!st && !status && says_done()) || ((st || status) && strstr(told, "memory"));
    if (!is_clean)
        fail_msg("allocation %llu%s failed: code %d, status %d, \"%s\", \"%s\"",
                 (unsigned long long)n, way_names[how], st, status, told, said.out);
    if (how == FOR_GOOD && was_reached) assert_true(st || status);
    if (f->live != held)
        fail_msg("allocation %llu%s failed: %lld blocks are left", (unsigned long long)n,
                 way_names[how], (long long)(f->live - held));
    return was_reached;
}

static uint64_t stride_of_run(void) {
    const char *text = getenv("PERI_OOM_STRIDE");
    uint64_t stride = text ? strtoull(text, NULL, 10) : 17;
    return stride <= 1 ? 1 : stride * SPREAD;
}

static void a_chat_with_a_tool_survives_each_failing_allocation(void **state) {
    (void)state;
    if (access(MODEL, R_OK)) skip();
    const char *path = script_write(script);
    peri_fault *f = peri_fault_alloc_install();
    peri_runtime *rt = rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 1, NULL);
    assert_works(rt, path, "at first"); /* what the process keeps for good is there now */
    f->calls = 0;
    assert_works(rt, path, "before");
    uint64_t n_call = f->calls, stride = stride_of_run(), n_run = 0;
    for (uint64_t n = 1; fail_one(f, rt, path, n, (way)(n_run % N_WAY)); n += stride) {
        if (++n_run % 64 == 0) assert_works(rt, path, "in between");
    }
    assert_works(rt, path, "at the end");
    print_message("%llu of %llu allocations failed in turn\n", (unsigned long long)n_run,
                  (unsigned long long)n_call);
    assert_true(n_run > 10);
    peri_runtime_free(rt);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chat_with_a_tool_survives_each_failing_allocation),
    };
    signal(SIGALRM, on_alarm);
    int result = peri_run_tests(tests);
    rig_end();
    return result;
}
