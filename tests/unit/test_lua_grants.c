/* SPDX-License-Identifier: MIT
 *
 * test_lua_grants.c - what a script may reach: files in granted folders, variables, answers that
 * are kept. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/sha256.h"
#include "fault.h"
#include "lua_world.h"
#include "rig.h"
#include "script/sandbox_int.h"

/* rig_dir() holds: in/a.txt in/b.txt in/sub/c.txt in/link_out -> ../secret.txt in/dir_out -> ..
 * in/link_in -> a.txt secret.txt insider/d.txt */
static void put(const char *name, const char *text) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", rig_dir(), name);
    peri_error err;
    assert_ok(peri_file_write(path, text, strlen(text), &err), err);
}

static void make_tree(void) {
    static const char *const folders[] = {"in", "in/sub", "insider"};
    char path[600];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", rig_dir(), folders[i]);
        mkdir(path, 0700);
    }
    put("in/a.txt", "text a");
    put("in/b.txt", "text b");
    put("in/sub/c.txt", "text c");
    put("secret.txt", "secret");
    put("insider/d.txt", "other");
    static const char *const links[][2] = {
        {"../secret.txt", "in/link_out"}, {"..", "in/dir_out"}, {"a.txt", "in/link_in"}};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", rig_dir(), links[i][1]);
        if (symlink(links[i][0], path) != 0) perror(path);
    }
}

static void end_tree(void) {
    char path[600];
    static const char *const names[] = {
        "in/a.txt",   "in/b.txt",   "in/new.txt", "in/sub/c.txt",  "in/link_out",
        "in/dir_out", "in/link_in", "secret.txt", "insider/d.txt", "cfg/sub/grants.json",
        "asks.lua",   "in/sub",     "in",         "insider",       "cfg/sub",
        "cfg"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", rig_dir(), names[i]);
        remove(path);
    }
    rig_end();
}

static void open_granted(world *w, const char *const *allow, size_t n) {
    open_world(w, (peri_lua_options){.work_dir = rig_dir(), .allow = allow, .n_allow = n});
}

/* Text with each "@" replaced by the folder of the test. */
static const char *here(const char *text) {
    static char out[4][2048];
    static int next;
    char *to = out[next++ % 4];
    size_t n = 0;
    for (; *text != 0 && n + 1 < sizeof out[0]; text++) {
        if (*text == '@')
            n += (size_t)snprintf(to + n, sizeof out[0] - n, "%s", rig_dir());
        else
            to[n++] = *text;
        to[n] = 0;
    }
    return to;
}

static void reads_in_granted_folders(void) {
    static const char *const allow[] = {"fs.read=in"};
    world w;
    open_granted(&w, allow, 1);
    expect_print(
        &w,
        "local fs = (...)('fs')\n"
        "print(fs.read('in/a.txt'), fs.read('in/../in/./sub//c.txt'), fs.exists('in/no'), "
        "fs.exists('in/sub'))\n"
        "print(table.concat(fs.list('in'), ' '))\n"
        "print(fs.stat('in/a.txt').type, fs.stat('in/a.txt').size, fs.stat('in').type)\n"
        "print(select(2, fs.read('in/no')).code, select(2, fs.read('in/sub')).code, select(2, "
        "fs.list('in/a.txt')).code)\n"
        "print(select(2, fs.read('in/a.txt', 3)).code)\n"
        "print((select(2, fs.read('in/no')).message:gsub('^.*/in', 'in')))\n",
        "text a\ttext c\tfalse\ttrue\na.txt b.txt dir_out link_in link_out sub\nfile\t6\tfolder\n"
        "not_found\tio\tio\nrange\nin/no: cannot open: No such file or directory\n");
    expect_print(&w, here("print(select(2, (...)('fs').read('@/in/a.txt', 3)))"),
                 here("@/in/a.txt: found 6 bytes, expected at most 3\n"));
    close_world(&w);
}

static void refuses_what_leaves_them(void) {
    static const char *const allow[] = {"fs.read=in", "fs.write=in"};
    world w;
    open_granted(&w, allow, 2);
    expect_print(&w,
                 "local fs = (...)('fs')\n"
                 "for _, p in ipairs{ 'secret.txt', 'in/../secret.txt', 'insider/d.txt', "
                 "'/etc/passwd', 'in/link_out',\n"
                 "  'in/dir_out/secret.txt', 'in/dir_out/in/a.txt', '..' } do\n"
                 "  local text, err = fs.read(p)\n"
                 "  if text or err.code ~= 'not_allowed' then print(p, text, err) end\n"
                 "  text, err = fs.list(p)\n"
                 "  if text or err.code ~= 'not_allowed' and p ~= 'in/link_out' then print('list', "
                 "p, err) end\n"
                 "end\n"
                 "print(fs.write('in/dir_out/x', 'x'), fs.write('out.txt', 'x'))\n",
                 here("nil\tnil\twriting @/out.txt is not allowed; add --allow fs.write=@\n"));
    expect_print(&w, "print(select(2, (...)('fs').read('/etc/passwd')))",
                 "reading /etc/passwd is not allowed; add --allow fs.read=/etc\n");
    expect_print(&w, "print(select(2, (...)('fs').list('/etc')))",
                 "reading /etc is not allowed; add --allow fs.read=/etc\n");
    expect_print(&w, "print(select(2, (...)('fs').read('in/link_out')))",
                 here("reading @/in/link_out is not allowed: a link in it leaves @/in\n"));
    expect_error(&w, "(...)('fs').read('a\\0b')", PERI_E_OTHER, "t.lua:1: file name");
    close_world(&w);
}

static void writes_whole_files(void) {
    static const char *const allow[] = {"fs.write=in", "fs.read=in"};
    world w;
    open_granted(&w, allow, 2);
    expect_print(&w,
                 "local fs = (...)('fs')\n"
                 "print(fs.write('in/new.txt', 'one'), fs.write('in/new.txt', 'two'), "
                 "fs.read('in/new.txt'))\n"
                 "print(fs.write('in/no/x', 'x') == nil, fs.write('in', 'x') == nil, "
                 "fs.write('in/sub', 'x') == nil)\n"
                 "print(#fs.list('in'))\n",
                 "true\ttrue\ttwo\ntrue\ttrue\ttrue\n7\n");
    char path[600];
    snprintf(path, sizeof path, "%s/in/new.txt", rig_dir());
    assert_int_equal(unlink(path), 0);
    close_world(&w);
}

static void files_are_confined(void **state) {
    (void)state;
    reads_in_granted_folders();
    refuses_what_leaves_them();
    writes_whole_files();
}

/* The walk for kernels without openat2 refuses every link. */
static void files_are_confined_without_openat2(void **state) {
    (void)state;
    lua_has_openat2 = false;
    reads_in_granted_folders();
    refuses_what_leaves_them();
    writes_whole_files();
    static const char *const allow[] = {"fs.read=in"};
    world w;
    open_granted(&w, allow, 1);
    expect_print(&w, "print(select(2, (...)('fs').read('in/link_in')).code)", "not_allowed\n");
    close_world(&w);
    lua_has_openat2 = true;
    open_granted(&w, allow, 1);
    expect_print(&w, "print((...)('fs').read('in/link_in'))", "text a\n");
    close_world(&w);
}

static void flags_are_checked(void **state) {
    static const struct {
        const char *allow;
        peri_status code;
        const char *text;
    } bad[] = {
        {"fs.read", PERI_E_INVALID, "--allow fs.read: expected fs.read=FOLDER"},
        {"fs.raed=/", PERI_E_INVALID, "unknown capability 'fs.raed'; did you mean 'fs.read'?"},
        {"fs.read=nowhere", PERI_E_NOT_FOUND, "--allow fs.read=nowhere: there is no folder"},
        {"fs.read=secret.txt", PERI_E_INVALID, "is a file, expected a folder"},
        {"net=example.org:443", PERI_E_UNSUPPORTED,
         "capability 'net' is not available in this version"},
        {"exec=/bin/true", PERI_E_UNSUPPORTED,
         "capability 'exec' is not available in this version"},
        {"env=", PERI_E_INVALID, "expected a variable's name"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        peri_lua *l;
        peri_error err;
        peri_lua_options o = {
            .size = sizeof o, .work_dir = rig_dir(), .allow = &bad[i].allow, .n_allow = 1};
        assert_int_equal(peri_lua_open(&o, &l, &err), bad[i].code);
        assert_error(&err, bad[i].code, bad[i].text);
        assert_null(l);
    }
    static const char *const env[] = {"env=PERI_TEST_VARIABLE"};
    world w;
    open_granted(&w, env, 1);
    setenv("PERI_TEST_VARIABLE", "value", 1);
    expect_print(&w,
                 "local env = (...)('env')\nprint(env.get('PERI_TEST_VARIABLE'))\n"
                 "print(env.get('HOME'))\nprint((...)('grants').list()[1])",
                 "value\nnil\tthe environment variable HOME is not allowed; add --allow env=HOME\n"
                 "env=PERI_TEST_VARIABLE\n");
    unsetenv("PERI_TEST_VARIABLE");
    close_world(&w);
}

static void capabilities_are_compared(void **state) {
    static const char *const allow[] = {"fs.read=in"};
    world w;
    (void)state;
    open_granted(&w, allow, 1);
    w.answer = false;
    expect_print(&w,
                 "local g = (...)('grants')\n"
                 "print(g.request{ fs = { read = { 'in', 'in/sub' } }, time = true })\n"
                 "print(g.request{})\n",
                 "true\ntrue\n");
    assert_int_equal(w.n_question, 0);
    close_world(&w);
}

static void questions_cannot_paint_the_terminal(void **state) {
    world w;
    (void)state;
    open_granted(&w, NULL, 0);
    expect_print(&w, "print((...)('grants').request{ env = 'A\\27[2Jsafe\\r' } == nil)", "true\n");
    assert_string_equal(w.question,
                        "The script wants to see the environment variable A\\x1b[2Jsafe\\x0d");
    close_world(&w);
}

/* The rights are asked for in no fixed order, so the message is checked by parts. */
static void refusals_name_every_flag(void **state) {
    world w;
    (void)state;
    open_granted(&w, NULL, 0);
    assert_ok(
        run_with(
            &w,
            "local ok, err = (...)('grants').request{ fs = { write = 'in' }, env = { 'HOME' } }\n"
            "print(err.code, err)",
            sys_module),
        w.err);
    assert_non_null(
        strstr(w.out.data, "not_allowed\tthe script asks for more than it may have; add"));
    assert_non_null(strstr(w.out.data, here(" --allow fs.write=@/in")));
    assert_non_null(strstr(w.out.data, " --allow env=HOME"));
    static const char *const bad[][2] = {
        {"{ sf = {} }", "capabilities: unknown key 'sf'; did you mean 'fs'?"},
        {"{ fs = { raed = '.' } }", "capabilities.fs: unknown key 'raed'; did you mean 'read'?"},
        {"{ fs = 'x' }", "capabilities: fs: found string, expected { read = ..., write = ... }"},
        {"{ fs = { read = 1 } }", "capabilities: fs.read: found number, expected a string"},
        {"{ net = { 'example.org' } }", "capability 'net' is not available in this version"},
        {"{ exec = true }", "capability 'exec' is not available in this version"},
        {"{ 'fs' }", "capabilities: unknown key '(list entry)'"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[200];
        snprintf(text, sizeof text, "print(select(2, (...)('grants').request%s))", bad[i][0]);
        assert_ok(run_with(&w, text, sys_module), w.err);
        if (strstr(w.out.data, bad[i][1]) == NULL) fail_msg("%s: %s", bad[i][0], w.out.data);
    }
    close_world(&w);
}

/* Ask, as the script asks.lua; the number of questions. */
static int ask_once(const char *config, bool answer, const char *want) {
    char path[600];
    world w;
    int n;
    lua_State *co;
    snprintf(path, sizeof path, "%s/asks.lua", rig_dir());
    open_world(&w, (peri_lua_options){.work_dir = rig_dir(), .config_dir = config});
    w.answer = answer;
    assert_ok(peri_lua_load_user(w.l, path, &w.err), w.err);
    lua_State *L = peri_lua_main(w.l);
    co = lua_newthread(L);
    lua_insert(L, -2);
    lua_xmove(L, co, 1);
    lua_pushcfunction(co, sys_module);
    assert_ok(peri_lua_resume(w.l, co, 1, &n, &w.err), w.err);
    if (strstr(w.out.data, want) == NULL) fail_msg("found %s, expected %s", w.out.data, want);
    if (w.n_question > 0)
        assert_non_null(strstr(w.question, here("asks.lua wants to read files in @/in")));
    n = w.n_question;
    close_world(&w);
    return n;
}

static void answers_are_kept(void **state) {
    static const char script[] =
        "local sys = ...\nprint(sys('grants').request{ fs = { read = 'in' } })\n"
        "print(sys('fs').read('in/a.txt'))\n";
    char config[600], kept[700], changed[sizeof script + 8];
    char *text, hash[PERI_SHA256_TEXT];
    size_t size;
    peri_error err;
    (void)state;
    snprintf(config, sizeof config, "%s/cfg/sub", rig_dir());
    put("asks.lua", script);
    assert_int_equal(ask_once(config, false, "nil\tthe script asks for more"), 1);
    assert_int_equal(ask_once(config, true, "true\ntext a\n"), 1);
    assert_int_equal(ask_once(config, false, "true\ntext a\n"), 0); /* remembered */
    assert_int_equal(ask_once(NULL, true, "true\ntext a\n"), 1);
    snprintf(kept, sizeof kept, "%s/grants.json", config);
    assert_ok(peri_file_read(kept, 1 << 20, &text, &size, &err), err);
    assert_ok(peri_sha256(script, sizeof script - 1, hash, &err), err);
    assert_non_null(strstr(text, hash));
    peri_free(text);
    snprintf(changed, sizeof changed, "%s-- x\n", script);
    put("asks.lua", changed);
    assert_int_equal(ask_once(config, false, "nil\tthe script asks for more"), 1);
    assert_ok(peri_file_write(kept, "{]", 2, &err), err);
    assert_int_equal(ask_once(config, true, "grants.json: JSON: byte"), 0);
    assert_ok(peri_file_write(kept, "{}", 2, &err), err);
    assert_int_equal(ask_once(config, true, "expected \"version\": 1"), 0);
    assert_int_equal(unlink(kept), 0);
}

static bool says_yes(void *user, const char *question) {
    (void)user;
    return question[0] != 0;
}

/* Open, load the script, ask, keep the answer, read a file; any status, nothing left behind. */
static peri_status whole_life(const char *script, const char *config, peri_error *err) {
    peri_lua *l;
    peri_lua_options o = {.size = sizeof o,
                          .slice_ms = 5000,
                          .work_dir = rig_dir(),
                          .config_dir = config,
                          .ask = says_yes};
    peri_status status = peri_lua_open(&o, &l, err);
    if (status != PERI_OK) return status;
    status = peri_lua_load_user(l, script, err);
    if (status == PERI_OK) {
        lua_pushcfunction(peri_lua_main(l), sys_module);
        status = peri_lua_call(l, peri_lua_main(l), 1, 0, err);
    }
    peri_lua_close(l);
    return status;
}

static void every_allocation_may_fail(void **state) {
    char script[600], config[600], kept[700];
    peri_error err;
    (void)state;
    put("asks.lua", "local sys = ...\nassert(sys('grants').request{ fs = { read = 'in' } })\n"
                    "assert(sys('fs').read('in/a.txt') == 'text a')\n");
    snprintf(script, sizeof script, "%s/asks.lua", rig_dir());
    snprintf(config, sizeof config, "%s/cfg/sub", rig_dir());
    snprintf(kept, sizeof kept, "%s/grants.json", config);
    assert_ok(whole_life(script, config, &err), err); /* OpenSSL's tables are there from now on */
    peri_fault *f = peri_fault_alloc_install();
    for (int persistent = 0; persistent < 2; persistent++) {
        for (uint64_t n = 1;; n += 3) {
            unlink(kept);
            *f = (peri_fault){.fail_at = n, .persistent = persistent != 0};
            peri_status status = whole_life(script, config, &err);
            assert_int_equal(f->live, 0);
            if (f->calls < n) {
                assert_ok(status, err);
                break;
            }
            assert_true(status == PERI_OK || status == PERI_E_NOMEM);
        }
    }
    peri_fault_alloc_remove();
    unlink(kept);
}

static void hashes_are_sha_256(void **state) {
    char text[PERI_SHA256_TEXT];
    peri_error err;
    (void)state;
    assert_ok(peri_sha256("abc", 3, text, &err), err);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_ok(peri_sha256("", 0, text, &err), err);
    assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void times_and_output(void **state) {
    world w;
    (void)state;
    open_granted(&w, NULL, 0);
    expect_print(
        &w,
        "local time, out = (...)('time'), (...)('out')\n"
        "print(time.date('!%Y-%m-%d %H:%M:%S', 86400 * 365), time.now() > 1e9, time.monotonic() > "
        "0)\n"
        "print(pcall(time.date, '%Ez'), pcall(time.date, '%Y', 1e300))\n"
        "out.write('a', 1, 'b\\n')\n",
        "1971-01-01 00:00:00\ttrue\ttrue\n"
        "false\tfalse\tbad argument #2 to '?' (expected a time in the years 0 to 9999)\na1b\n");
    close_world(&w);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_confined),
        cmocka_unit_test(files_are_confined_without_openat2),
        cmocka_unit_test(flags_are_checked),
        cmocka_unit_test(capabilities_are_compared),
        cmocka_unit_test(refusals_name_every_flag),
        cmocka_unit_test(questions_cannot_paint_the_terminal),
        cmocka_unit_test(answers_are_kept),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(hashes_are_sha_256),
        cmocka_unit_test(times_and_output),
    };
    make_tree();
    int rc = peri_run_tests(tests);
    end_tree();
    return rc;
}
