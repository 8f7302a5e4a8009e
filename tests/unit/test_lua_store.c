/* SPDX-License-Identifier: MIT
 *
 * test_lua_store.c - perigee.sys.store: drafts become files whole or not at all, names stay in
 * their folder, the lock excludes, a source that changes is noticed, memory may run out. */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/sha256.h"
#include "fault.h"
#include "lua_world.h"
#include "rig.h"
#include "script/lua_store.h"
#include "script/sandbox_int.h"

static void put(const char *name, const char *text) {
    char path[600];
    peri_error err;
    snprintf(path, sizeof path, "%s/%s", rig_dir(), name);
    assert_ok(peri_file_write(path, text, strlen(text), &err), err);
}

/* rig_dir() holds: secret.txt s/f/a s/out -> .. s/link -> ../secret.txt s/in -> f */
static void make_tree(void) {
    static const char *const folders[] = {"s", "s/f"};
    static const char *const links[][2] = {
        {"..", "s/out"}, {"../secret.txt", "s/link"}, {"f", "s/in"}};
    char path[600];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", rig_dir(), folders[i]);
        mkdir(path, 0700);
    }
    put("secret.txt", "secret");
    put("s/f/a", "text a");
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", rig_dir(), links[i][1]);
        if (symlink(links[i][0], path) != 0) perror(path);
    }
}

static void end_tree(void) {
    static const char *const names[] = {
        "s/out", "s/link", "s/in",       "s/f/a", "s/f/b", "s/f/c", "s/lock", "s/f",   "s/x/y/z",
        "s/x/y", "s/x",    "secret.txt", "s",     "m/n/o", "m/n",   "m",      "source"};
    char path[600];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", rig_dir(), names[i]);
        remove(path);
    }
    rig_end();
}

/* A state whose relative paths start in rig_dir(). */
static void open_store(world *w) {
    make_tree();
    open_world(w, (peri_lua_options){.work_dir = rig_dir()});
    assert_ok(peri_lua_store_offer(w->l, &w->err), w->err);
}

static void close_store(world *w) {
    close_world(w);
    end_tree();
}

#define BEGIN                                                                                      \
    "local store = (...)('store')\nlocal s <close> = assert(store.open('s'))\n"                    \
    "local function names(f) return table.concat(s:list(f).names, ' ') end\n"

static void drafts_appear_whole_or_not_at_all(void **state) {
    world w;
    char want[300], digest[PERI_SHA256_TEXT];
    (void)state;
    open_store(&w);
    assert_ok(peri_sha256("one two", 7, digest, &w.err), w.err);
    snprintf(want, sizeof want, "true\na\n%s\t7\ntrue\na b\none two\nfile\t7\n", digest);
    expect_print(&w,
                 BEGIN "do\n"
                       "  local d <close> = assert(s:draft('f'))\n"
                       "  d:write('one ')\n"
                       "  print(names('f'):find('^%.perigee%-%d+%-%d+%.tmp a$') ~= nil)\n"
                       "end\n"
                       "print(names('f'))\n"
                       "local d <close> = assert(s:draft('f'))\n"
                       "d:write('one ') d:write('two')\n"
                       "print(d:digest(), d:size())\n"
                       "print(d:publish('b'))\n"
                       "print(names('f'))\n"
                       "print(s:read('f/b', 100))\n"
                       "print(s:stat('f/b').kind, s:stat('f/b').size)\n",
                 want);
    expect_error(&w, BEGIN "s:draft('f'):publish('c')", PERI_E_OTHER, "no complete draft");
    expect_error(&w, BEGIN "local d = s:draft('f') d:digest() d:publish('../c')", PERI_E_OTHER,
                 "expected a plain name");
    expect_error(&w, BEGIN "local d = s:draft('f') d:digest() d:write('x')", PERI_E_OTHER,
                 "takes no text");
    close_store(&w);
}

static void copies_are_hashed(void **state) {
    static char data[(1 << 20) + 4321];
    world w;
    char want[300], digest[PERI_SHA256_TEXT], path[600];
    (void)state;
    open_store(&w);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7 + i / 251);
    snprintf(path, sizeof path, "%s/source", rig_dir());
    assert_ok(peri_file_write(path, data, sizeof data, &w.err), w.err);
    assert_ok(peri_sha256(data, sizeof data, digest, &w.err), w.err);
    snprintf(want, sizeof want, "%zu\t%zu\ttrue\n%s\n%s\nb\t%s\n", sizeof data, sizeof data, digest,
             digest, digest);
    char text[2000];
    snprintf(text, sizeof text,
             BEGIN "local d <close> = assert(s:draft('f', '%s'))\n"
                   "print(d:step())\nprint(d:digest())\nd:publish('b')\n"
                   "local h <close> = assert(s:source('f/b'))\nh:step()\nprint(h:digest())\n"
                   "local g <close> = assert(store.source('%s'))\ng:step()\n"
                   "print(names('f'):match('b'), g:digest())\n",
             path, path);
    expect_print(&w, text, want);
    close_store(&w);
}

/* What is said of the link. */
static const char *here_link(void) {
    static char text[700];
    snprintf(text, sizeof text, "nil\t%s/s/link: a link in it leaves the folder %s/s\n", rig_dir(),
             rig_dir());
    return text;
}

static void names_stay_in_the_folder(void **state) {
    world w;
    (void)state;
    open_store(&w);
    for (int kernel = 0; kernel < 2; kernel++) {
        lua_has_openat2 = kernel == 0;
        expect_print(
            &w,
            BEGIN "for _, p in ipairs { '../secret.txt', '/etc/passwd', 'out/secret.txt', 'link',\n"
                  "  'f/../../secret.txt', 'out' } do\n"
                  "  for _, call in ipairs { 'stat', 'read', 'list', 'source', 'draft', 'lock' } "
                  "do\n"
                  "    local ok, err = s[call](s, p, call == 'read' and 100 or nil)\n"
                  "    if ok then print(p, call) end\n"
                  "  end\n"
                  "end\n"
                  "for _, p in ipairs { '../x', '/x', 'out/x', 'f/../../x' } do\n"
                  "  if s:make(p) or s:remove(p) then print(p) end\n"
                  "end\n"
                  "print(s:stat('link'))",
            here_link());
    }
    lua_has_openat2 = true;
    close_store(&w);
}

static void a_source_that_changes_is_noticed(void **state) {
    world w;
    (void)state;
    open_store(&w);
    put("source", "what it was");
    char text[1000];
    snprintf(text, sizeof text,
             BEGIN "local fs = (...)('fs')\n"
                   "local d <close> = assert(store.source('%s/source'))\n"
                   "assert(fs.write('%s/source', 'what it is'))\n"
                   "print(d:step())\n",
             rig_dir(), rig_dir());
    close_world(&w);
    char allow[700];
    snprintf(allow, sizeof allow, "fs.write=%s", rig_dir());
    const char *list[] = {allow};
    open_world(&w, (peri_lua_options){.work_dir = rig_dir(), .allow = list, .n_allow = 1});
    assert_ok(peri_lua_store_offer(w.l, &w.err), w.err);
    /* Replaced by rename: the open file is the old one, whole. */
    expect_print(&w, text, "11\t11\ttrue\n");
    /* Cut in place: fewer bytes than there were. */
    snprintf(text, sizeof text, BEGIN "return assert(store.source('%s/source'))", rig_dir());
    lua_State *L = peri_lua_main(w.l);
    lua_pushcfunction(L, sys_module);
    lua_pushliteral(L, "store");
    assert_ok(peri_lua_call(w.l, L, 1, 1, &w.err), w.err);
    lua_getfield(L, -1, "source");
    snprintf(text, sizeof text, "%s/source", rig_dir());
    lua_pushstring(L, text);
    assert_ok(peri_lua_call(w.l, L, 1, 1, &w.err), w.err);
    assert_int_equal(truncate(text, 3), 0);
    lua_getfield(L, -1, "step");
    lua_pushvalue(L, -2);
    assert_ok(peri_lua_call(w.l, L, 1, 2, &w.err), w.err);
    assert_true(lua_isnil(L, -2));
    const char *said = luaL_tolstring(L, -1, NULL);
    assert_non_null(strstr(said, "changed while it was read (10 bytes when opened, 3 read)"));
    lua_settop(L, 0);
    close_store(&w);
}

static void the_lock_excludes(void **state) {
    world w;
    (void)state;
    open_store(&w);
    expect_print(&w,
                 BEGIN "local other <close> = assert(store.open('s'))\n"
                       "local lock = s:lock('lock')\n"
                       "print(lock ~= nil, other:lock('lock'))\n"
                       "lock:close()\n"
                       "print(other:lock('lock') ~= false)\n",
                 "true\tfalse\ntrue\n");
    close_store(&w);
}

static void folders_are_made_and_removed(void **state) {
    world w;
    (void)state;
    open_store(&w);
    expect_print(&w,
                 BEGIN "print(s:make('x/y/z'), s:make('x/y'), s:stat('x/y/z').kind)\n"
                       "print(s:remove('x/y'), s:remove('x/y/z'), s:remove('x/y'), s:remove('x'))\n"
                       "print(select(2, s:remove('x')).code)\n"
                       "local m <close> = assert(store.open('m/n/o', true))\n"
                       "print(#m:list('.').names, select(2, store.open('nowhere')).code)\n",
                 "true\ttrue\tfolder\nfalse\ttrue\ttrue\ttrue\nnot_found\n0\tnot_found\n");
    close_store(&w);
}

static void memory_may_run_out(void **state) {
    enum { MOST = 4000 };
    world w;
    char text[1000], path[600];
    (void)state;
    open_store(&w);
    put("source", "bytes");
    snprintf(text, sizeof text,
             BEGIN "local d <close> = assert(s:draft('f', '%s/source'))\n"
                   "d:step() d:digest()\nassert(names('f'))\nassert(s:read('f/a', 10))\n"
                   "s:stat('f')\nassert(d:publish('b'))\n",
             rig_dir());
    close_world(&w);
    peri_fault *f = peri_fault_alloc_install();
    uint64_t n = 0;
    peri_status status = PERI_E_NOMEM;
    while (status != PERI_OK && ++n < MOST) {
        *f = (peri_fault){0};
        open_world(&w, (peri_lua_options){.work_dir = rig_dir()});
        assert_ok(peri_lua_store_offer(w.l, &w.err), w.err);
        f->fail_at = f->calls + n;
        f->n_more = 1;
        status = run_with(&w, text, sys_module);
        f->fail_at = 0;
        close_world(&w);
        assert_int_equal(f->live, 0);
        snprintf(path, sizeof path, "%s/s/f/b", rig_dir());
        assert_int_equal(access(path, F_OK) == 0, status == PERI_OK);
    }
    peri_fault_alloc_remove();
    assert_true(n > 10 && n < MOST);
    print_message("%d allocations failed in turn\n", (int)n - 1);
    open_world(&w, (peri_lua_options){.work_dir = rig_dir()});
    assert_ok(peri_lua_store_offer(w.l, &w.err), w.err);
    expect_print(&w, BEGIN "print(names('f'))\n", "a b\n");
    close_store(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_appear_whole_or_not_at_all),
        cmocka_unit_test(copies_are_hashed),
        cmocka_unit_test(names_stay_in_the_folder),
        cmocka_unit_test(a_source_that_changes_is_noticed),
        cmocka_unit_test(the_lock_excludes),
        cmocka_unit_test(folders_are_made_and_removed),
        cmocka_unit_test(memory_may_run_out),
    };
    return peri_run_tests(tests);
}
