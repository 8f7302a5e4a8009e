/* SPDX-License-Identifier: MIT
 *
 * test_registry.c - plugins found, examined, refused with a reason, opened; the bad ones of
 * tests/plugin cost one line each and nothing else. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fault.h"
#include "harness.h"
#include "plugin_rig.h"

#define ONE_NODE "numa:1(memory=8GB) core:2 pu:1"

static void assert_reason(const peri_plugin_file *f, peri_plugin_state state,
                          const char *fragment) {
    if (f->state != state || strstr(f->reason, fragment) == NULL)
        fail_msg("%s: state %d, reason \"%s\"; expected state %d, \"%s\"", f->path, (int)f->state,
                 f->reason, (int)state, fragment);
    assert_null(strchr(f->reason, '\n'));
}

static size_t open_descriptors(void) {
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir != NULL && readdir(dir) != NULL)
        n++;
    if (dir != NULL) closedir(dir);
    return n;
}

/* ---- the bad ones
 * -------------------------------------------------------------------------------- */

static const struct {
    const char *name, *fragment;
} refused[] = {
    {"bad_segv", "crashed while loading, in a constructor (SIGSEGV)"},
    {"bad_ill", "crashed while loading, in a constructor (SIGILL)"},
    {"bad_exit", "ended the process while loading, in a constructor (exit status 0)"},
    {"bad_hang", "hung in device(0): no answer within"},
    {"bad_deaf", "hung while loading, in a constructor: no answer within"},
    {"bad_abi_note", "built for plugin ABI 7.0, this core speaks 0.3"},
    {"bad_abi_symbol", "built for plugin ABI 7, this core speaks 0"},
    {"bad_abi_table", "its table is of plugin ABI 3.1, this core speaks 0.3"},
    {"bad_no_symbol", "exports no perigee_plugin_v0"},
    {"bad_no_note", "no Perigee note"},
    {"bad_arch", "built for ppc64, this processor is"},
    {"bad_endless", "its device list has no end"},
    {"bad_string", "device 0: name is not terminated within its 32 bytes"},
    {"bad_size", "device 0: it overwrote the size field (found 7"},
    {"bad_overrun", "device 0: it wrote past the room it was given"},
    {"bad_status", "device 0: returned 5, which is no status"},
    {"bad_prints", "it prints to standard output: \"hello from the plugin\""},
    {"bad_function", "required function run_op is NULL"},
    {"bad_null", "the moon is in the wrong phase"},
    {"bad_name", "calls itself 'wolf', but its note says 'sheep'"},
};

/* How long a probe that hangs is waited for: a second, and a hundred times what one takes that
 * answers, on this machine and beside what else it does now. */
static uint32_t patience_ms(void) {
    peri_rig rig;
    struct timespec a, b;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_null());
    rig_set(&rig, "null.devices", "name=fake0");
    rig.timeout_ms = 60000;
    clock_gettime(CLOCK_MONOTONIC, &a);
    rig_look(&rig);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_int_equal(peri_registry_n_device(rig.registry), 1);
    rig_fini(&rig);
    int64_t took_us = ((int64_t)b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
    return (uint32_t)(1000 + took_us / 10);
}

static void registry_refuses_each_bad_plugin_and_goes_on(void **state) {
    (void)state;
    peri_rig rig;
    struct timespec a, b;
    uint32_t timeout_ms = patience_ms();
    size_t n = sizeof refused / sizeof refused[0];
    rig_init(&rig, ONE_NODE);
    size_t before = open_descriptors();
    for (size_t i = 0; i < n; i++)
        rig_add(&rig, rig_plugin(refused[i].name));
    rig_add(&rig, rig_plugin("bad_library"));
    rig_add(&rig, rig_null());
    rig_set(&rig, "null.devices", "name=fake0");
    rig.timeout_ms = timeout_ms;
    clock_gettime(CLOCK_MONOTONIC, &a);
    rig_look(&rig);
    clock_gettime(CLOCK_MONOTONIC, &b);
    for (size_t i = 0; i < n; i++) {
        char tail[64];
        snprintf(tail, sizeof tail, "%s.so", refused[i].name);
        assert_reason(rig_file(&rig, tail), PERI_PLUGIN_REFUSED, refused[i].fragment);
    }
    assert_reason(rig_file(&rig, "bad_library.so"), PERI_PLUGIN_REFUSED,
                  "cannot be loaded: libperigee_test_stub.so: cannot open shared object file");
    assert_int_equal(rig_file(&rig, "/null.so")->state, PERI_PLUGIN_USABLE);
    assert_int_equal(peri_registry_n_device(rig.registry), 1);
    /* Two of them hang, at the same time as everything else. */
    if ((b.tv_sec - a.tv_sec) * 1000 > 4 * (int64_t)timeout_ms)
        fail_msg("it took %d s, with %u ms for each", (int)(b.tv_sec - a.tv_sec), timeout_ms);
    peri_registry_free(rig.registry);
    rig.registry = NULL;
    assert_int_equal(open_descriptors(), before);
    rig_fini(&rig);
}

static void registry_refuses_files_that_are_no_plugins(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    const char *text = rig_path(&rig, "text.so"), *empty = rig_path(&rig, "empty.so");
    FILE *f = fopen(text, "w");
    assert_non_null(f);
    fputs("print('hello')\n", f);
    fclose(f);
    f = fopen(empty, "w");
    assert_non_null(f);
    fclose(f);
    const char *cut = rig_copy(&rig, rig_null(), "cut.so", 0755);
    struct stat st;
    assert_int_equal(stat(cut, &st), 0);
    assert_int_equal(truncate(cut, st.st_size / 4), 0);
    const char *folder = rig_path(&rig, "folder.so"), *open = rig_path(&rig, "open");
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_int_equal(mkdir(open, 0755), 0);
    const char *writable = rig_copy(&rig, rig_null(), "writable.so", 0777);
    const char *in_open = rig_copy(&rig, rig_null(), "open/null.so", 0755);
    assert_int_equal(chmod(open, 0777), 0);
    const char *odd = rig_copy(&rig, rig_null(), "od\033[31md.so", 0755);
    const char *files[] = {text, empty, cut, folder, writable, in_open, odd, "/no/such/file.so"};
    for (size_t i = 0; i < 8; i++)
        rig_add(&rig, files[i]);
    rig_set(&rig, "null.devices", "name=fake0");
    rig_look(&rig);
    assert_reason(rig_file(&rig, "/text.so"), PERI_PLUGIN_REFUSED,
                  "not a shared object (no ELF header)");
    assert_reason(rig_file(&rig, "/empty.so"), PERI_PLUGIN_REFUSED, "the file is empty");
    assert_reason(rig_file(&rig, "/cut.so"), PERI_PLUGIN_REFUSED, "truncated");
    assert_reason(rig_file(&rig, "/folder.so"), PERI_PLUGIN_REFUSED, "is not a regular file");
    assert_reason(rig_file(&rig, "/writable.so"), PERI_PLUGIN_REFUSED,
                  "is writable by others (mode 0777)");
    assert_reason(rig_file(&rig, "/open/null.so"), PERI_PLUGIN_REFUSED,
                  "/open is writable by others");
    assert_reason(rig_file(&rig, "/no/such/file.so"), PERI_PLUGIN_REFUSED,
                  "cannot be opened: No such file or directory");
    assert_reason(rig_file(&rig, "[31md.so"), PERI_PLUGIN_REFUSED, "its path is no plain UTF-8");
    assert_int_equal(peri_registry_n_device(rig.registry), 0);
    rig_fini(&rig);
}

static void registry_refuses_files_of_other_users(void **state) {
    (void)state;
    if (geteuid() != 0) skip(); /* only root can give files away */
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_copy(&rig, rig_null(), "given.so", 0755));
    rig_add(&rig, rig_copy(&rig, rig_null(), "group.so", 0775));
    assert_int_equal(chown(rig.file[0], 12345, (gid_t)-1), 0);
    assert_int_equal(chown(rig.file[1], (uid_t)-1, 12345), 0);
    rig_look(&rig);
    assert_reason(rig_file(&rig, "given.so"), PERI_PLUGIN_REFUSED,
                  "belongs to user 12345, not to root or you");
    assert_reason(rig_file(&rig, "group.so"), PERI_PLUGIN_REFUSED,
                  "is writable by others (mode 0775)");
    rig_fini(&rig);
}

static void registry_survives_a_missing_probe_program(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    const char *file = rig_null();
    peri_registry_options o = {.size = sizeof o,
                               .topology = rig.topology,
                               .files = &file,
                               .n_file = 1,
                               .library_dir = rig_path(&rig, "lib"),
                               .want_no_cache = true};
    peri_error err;
    assert_ok(peri_registry_new(&o, &rig.registry, &err), err);
    assert_reason(rig_file(&rig, "null.so"), PERI_PLUGIN_REFUSED,
                  "lib/perigee/0/perigee-probe cannot be started");
    rig_fini(&rig);
}

/* ---- older and newer ones
 * ------------------------------------------------------------------------- */

static void registry_opens_plugins_of_older_and_newer_headers(void **state) {
    (void)state;
    static const char *const names[] = {"old0", "old1", "fake0", "fake1"};
    peri_rig rig;
    peri_error err;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_plugin("old_header"));
    rig_add(&rig, rig_plugin("new_header"));
    rig_look(&rig);
    assert_int_equal(peri_registry_n_device(rig.registry), 4);
    for (size_t i = 0; i < 4; i++) {
        peri_backend *b = NULL;
        assert_ok(peri_registry_open(rig.registry, rig_device(&rig, names[i]), &b, &err), err);
        assert_int_equal(b->api.size, sizeof b->api);
        assert_int_equal(b->info.size, sizeof b->info);
        assert_true((b->api.close == NULL) == (i < 2)); /* the old table ends before it */
        assert_int_equal(b->info.mem_total, i < 2 ? 1000 : 0);
        assert_true(b->info.mem_gbps == 0);
        peri_backend_close(b);
    }
    assert_string_equal(rig_file(&rig, "old_header.so")->abi, "0.0");
    assert_string_equal(rig_file(&rig, "new_header.so")->abi, "0.9");
    assert_string_equal(rig_file(&rig, "new_header.so")->version, "9");
    rig_fini(&rig);
}

static void registry_refuses_to_open_liars(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err;
    peri_backend *b = NULL, *first = NULL;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_plugin("bad_two_faced"));
    rig_look(&rig);
    assert_int_equal(peri_registry_open(rig.registry, 0, &b, &err), PERI_E_OTHER);
    assert_null(b);
    assert_error(&err, PERI_E_OTHER,
                 "device 0 was fake0 at fake:0 when examined and is fake0 at elsewhere now");
    rig.n_file = 0;
    rig_add(&rig, rig_plugin("bad_handle"));
    rig_look(&rig);
    assert_int_equal(peri_registry_open(rig.registry, 0, &b, &err), PERI_E_ABI);
    assert_error(&err, PERI_E_ABI, "open returned 0 and no handle");
    rig.n_file = 0;
    rig_add(&rig, rig_plugin("shared_handle"));
    rig_look(&rig);
    assert_ok(peri_registry_open(rig.registry, 0, &first, &err), err);
    assert_int_equal(peri_registry_open(rig.registry, 1, &b, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "its handle is that of another open device");
    peri_backend_close(first);
    assert_ok(peri_registry_open(rig.registry, 1, &b, &err), err);
    peri_backend_close(b);
    assert_int_equal(peri_registry_open(rig.registry, 2, &b, &err), PERI_E_RANGE);
    rig_fini(&rig);
}

static void registry_notices_a_file_that_changed(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err;
    peri_backend *b = NULL;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_copy(&rig, rig_plugin("new_header"), "changing.so", 0755));
    rig_look(&rig);
    rig_copy(&rig, rig_plugin("bad_segv"), "changing.so", 0755);
    assert_int_equal(peri_registry_open(rig.registry, 0, &b, &err), PERI_E_OTHER);
    assert_error(&err, PERI_E_OTHER, "its file has changed since it was examined");
    rig_fini(&rig);
}

/* ---- the null plugin, from end to end
 * ------------------------------------------------------------- */

typedef struct little_program { /* LINEAR x [T][4], W, none, none -> y [T][3] within rows of 4 */
    peri_program head;
    peri_tensor tensor[3];
    peri_op op[2];
    uint32_t operand[9];
    peri_linear_attr attr;
} little_program;

static little_program make_program(void) {
    little_program p = {
        .head = {.size = sizeof p.head,
                 .bytes = sizeof p,
                 .n_tensors = 3,
                 .tensor_size = sizeof p.tensor[0],
                 .tensors = offsetof(little_program, tensor),
                 .n_ops = 2,
                 .op_size = sizeof p.op[0],
                 .ops = offsetof(little_program, op),
                 .operands = offsetof(little_program, operand),
                 .attrs = offsetof(little_program, attr)},
        .tensor = {{.kind = PERI_T_ACT, .dim = {1, 1, -PERI_SYM_T, 4}, .stride = {0, 0, 16, 4}},
                   {.kind = PERI_T_WEIGHT, .dim = {1, 1, 3, 4}, .stride = {48, 48, 16, 4}},
                   {.kind = PERI_T_ACT,
                    .dim = {1, 1, -PERI_SYM_T, 3},
                    .stride = {0, 0, 16, 4},
                    .off = 64}},
        .op = {{.code = PERI_OP_LINEAR, .n_in = 4, .n_out = 1, .attr_size = sizeof p.attr},
               {.code = PERI_OP_KV_APPEND, .n_in = 4, .operand = 5}},
        .operand = {0, 1, PERI_NONE, PERI_NONE, 2, 0, 0, 2, 2},
        .attr = {.size = sizeof p.attr}};
    return p;
}

static void null_plugin_answers_and_writes_zeros(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err = {0};
    peri_backend *b = NULL;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_null());
    rig_set(&rig, "null.devices",
            "name=fake0,location=pci:0000:3b:00.0,mem=24e9,gbps=1000;name=fake1");
    rig_look(&rig);
    size_t i = rig_device(&rig, "fake0");
    const peri_device *d = peri_registry_device(rig.registry, i);
    assert_string_equal(d->info.location, "pci:0000:3b:00.0");
    assert_int_equal(d->info.mem_total, 24000000000);
    assert_true(d->info.mem_gbps == 1000);
    assert_int_equal(d->info.flags,
                     PERI_DEV_EMULATED | PERI_DEV_HOST_MEM | PERI_DEV_BATCH_INVARIANT);
    assert_ok(peri_registry_open(rig.registry, i, &b, &err), err);
    assert_int_equal(peri_pool_workers(b->pool), 2);
    assert_int_equal(b->host->workers(b->dev), 2);

    little_program p = make_program();
    peri_bucket bucket = {.size = sizeof bucket, .lo = {0, 1}, .hi = {0, 4}};
    peri_support s = {.size = sizeof s};
    assert_int_equal(b->api.supports(b->dev, &p.head, 0, &bucket, &s, &err), PERI_OK);
    assert_int_equal(s.yes, 0);
    assert_non_null(strstr(s.why, "LINEAR is not in option null.supports"));
    rig_set(&rig, "null.supports", "LINEAR_QKV,LINEAR");
    assert_int_equal(b->api.supports(b->dev, &p.head, 0, &bucket, &s, &err), PERI_OK);
    assert_int_equal(s.yes, 1);
    assert_int_equal(b->api.supports(b->dev, &p.head, 1, &bucket, &s, &err), PERI_OK);
    assert_int_equal(s.yes, 0);
    rig_set(&rig, "null.supports", "all");
    assert_int_equal(b->api.supports(b->dev, &p.head, 1, &bucket, &s, &err), PERI_OK);
    assert_int_equal(s.yes, 1);
    rig_set(&rig, "null.fault", "supports:no@2");
    assert_int_equal(b->api.supports(b->dev, &p.head, 1, &bucket, &s, &err), PERI_OK);
    assert_int_equal(s.yes, 0);
    assert_int_equal(b->api.supports(b->dev, &p.head, 0, &bucket, &s, &err), PERI_OK);
    assert_int_equal(s.yes, 1);

    rig_set(&rig, "null.fault", "run:device_lost@3");
    float arena[40];
    for (int k = 0; k < 40; k++)
        arena[k] = 7;
    peri_buf *weights[1] = {(peri_buf *)(void *)arena};
    peri_bind bind = {.size = sizeof bind,
                      .n_weights = 1,
                      .arena = (peri_buf *)(void *)arena,
                      .weights = weights};
    peri_step step = {.size = sizeof step, .bytes = sizeof step, .n = {0, 2, 1, 1, 1}};
    assert_int_equal(b->api.run_op(b->dev, &p.head, 0, &bind, &step, &err), PERI_OK);
    for (int k = 0; k < 40; k++) {
        bool is_output = (k >= 16 && k < 19) || (k >= 20 && k < 23);
        assert_true(arena[k] == (is_output ? 0 : 7));
    }
    assert_int_equal(b->api.run_op(b->dev, &p.head, 1, &bind, &step, &err), PERI_OK);
    assert_int_equal(b->api.run_op(b->dev, &p.head, 0, &bind, &step, &err), PERI_E_DEVICE_LOST);
    assert_error(&err, PERI_E_DEVICE_LOST, "run: device_lost on request");
    assert_int_equal(b->api.run_op(b->dev, &p.head, 0, &bind, &step, &err), PERI_OK);
    peri_backend_close(b);

    rig_set(&rig, "null.fault", "open:nomem");
    assert_int_equal(peri_registry_open(rig.registry, i, &b, &err), PERI_E_NOMEM);
    assert_error(&err, PERI_E_NOMEM, "device fake0 of plugin null");
    assert_error(&err, PERI_E_NOMEM, "open: nomem on request");
    rig_fini(&rig);
}

static void null_plugin_offers_nothing_by_itself(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_null());
    rig_look(&rig);
    assert_int_equal(peri_registry_n_device(rig.registry), 0);
    assert_reason(rig_file(&rig, "null.so"), PERI_PLUGIN_NO_DEVICE,
                  "option null.devices names none");
    rig_fini(&rig);
}

static void probing_reports_faults_of_device(void **state) {
    (void)state;
    static const struct {
        const char *fault, *fragment;
        peri_plugin_state state;
    } cases[] = {{"device:crash", "crashed in device(0) (SIGILL)", PERI_PLUGIN_REFUSED},
                 {"device:crash@3", "crashed in device(2) (SIGILL)", PERI_PLUGIN_REFUSED},
                 {"device:hang@2", "hung in device(1): no answer within", PERI_PLUGIN_REFUSED},
                 {"device:nomem", "device: nomem on request", PERI_PLUGIN_REFUSED},
                 {"device:no_driver", "device: no_driver on request", PERI_PLUGIN_NO_DEVICE}};
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_null());
    uint32_t timeout_ms = patience_ms();
    char waited[32];
    snprintf(waited, sizeof waited, "within %u ms", timeout_ms);
    rig_set(&rig, "null.devices", "name=a;name=b;name=c");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rig_set(&rig, "null.fault", cases[i].fault);
        bool is_hang = strstr(cases[i].fault, "hang") != NULL;
        rig.timeout_ms = is_hang ? timeout_ms : 60000;
        rig_look(&rig);
        assert_reason(rig_file(&rig, "null.so"), cases[i].state, cases[i].fragment);
        if (is_hang) assert_reason(rig_file(&rig, "null.so"), cases[i].state, waited);
        assert_int_equal(peri_registry_n_device(rig.registry), 0);
    }
    rig_fini(&rig);
}

static void options_come_from_caller_then_environment(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_null());
    setenv("PERIGEE_NULL_DEVICES", "name=from_environment", 1);
    rig_look(&rig);
    rig_device(&rig, "from_environment");
    rig_set(&rig, "null.devices", "name=from_caller");
    rig_look(&rig);
    rig_device(&rig, "from_caller");
    unsetenv("PERIGEE_NULL_DEVICES");
    rig_fini(&rig);
}

/* ---- where files are looked for
 * -------------------------------------------------------------------- */

static void registry_searches_in_the_stated_order(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    static const char *const folders[] = {
        "data",          "data/perigee",           "data/perigee/0",        "lib", "lib/perigee",
        "lib/perigee/0", "data/perigee/0/plugins", "lib/perigee/0/plugins", "own"};
    for (size_t i = 0; i < 9; i++)
        assert_int_equal(mkdir(rig_path(&rig, folders[i]), 0755), 0);
    rig_copy(&rig, rig_null(), "data/perigee/0/plugins/user.so", 0755);
    rig_copy(&rig, rig_null(), "lib/perigee/0/plugins/z.so", 0755);
    rig_copy(&rig, rig_null(), "lib/perigee/0/plugins/a.so", 0755);
    rig_copy(&rig, rig_null(), "lib/perigee/0/plugins/readme.txt", 0644);
    rig_copy(&rig, rig_null(), "own/mine.so", 0755);
    rig_add(&rig, rig_null());
    rig_look(&rig);
    static const char *const expected[][2] = {{"null.so", "--plugin"},
                                              {"user.so", "user folder"},
                                              {"a.so", "installed"},
                                              {"z.so", "installed"}};
    assert_int_equal(peri_registry_n_file(rig.registry), 4);
    for (size_t i = 0; i < 4; i++) {
        const peri_plugin_file *f = peri_registry_file(rig.registry, i);
        assert_non_null(strstr(f->path, expected[i][0]));
        assert_string_equal(f->found_by, expected[i][1]);
        assert_int_equal(f->path[0], '/');
    }
    char path[600];
    snprintf(path, sizeof path, "relative:%s:%s", rig_path(&rig, "own"), rig_path(&rig, "missing"));
    setenv("PERIGEE_PLUGIN_PATH", path, 1);
    rig.n_file = 0;
    rig_look(&rig);
    assert_int_equal(peri_registry_n_file(rig.registry), 1);
    assert_string_equal(rig_file(&rig, "own/mine.so")->found_by, "PERIGEE_PLUGIN_PATH");
    char *json;
    peri_error err;
    assert_ok(peri_registry_to_json(rig.registry, &json, &err), err);
    assert_non_null(strstr(json, "'relative' is ignored: not an absolute path"));
    assert_non_null(strstr(json, "missing cannot be read"));
    peri_free(json);
    rig_fini(&rig);
    unsetenv("PERIGEE_PLUGIN_PATH");
}

static void registry_lists_a_file_once(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    assert_int_equal(symlink(rig_null(), rig_path(&rig, "link.so")), 0);
    rig_add(&rig, rig_path(&rig, "link.so"));
    rig_add(&rig, rig_null());
    rig_look(&rig);
    assert_int_equal(peri_registry_n_file(rig.registry), 1);
    rig_fini(&rig);
}

/* ---- one device, two plugins
 * ------------------------------------------------------------------------- */

static void registry_keeps_the_best_plugin_of_a_device(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err;
    peri_backend *b = NULL;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_null());
    rig_add(&rig, rig_plugin("nil"));
    rig_set(&rig, "null.devices",
            "name=e,location=pci:0000:01:00.0,gbps=900;name=slow,location=pci:0000:02:00.0,gbps=5;"
            "name=s1,location=pci:0000:03:00.0;name=s2,location=pci:0000:03:00.0;"
            "name=t1,location=pci:0000:04:00.0");
    rig_set(&rig, "nil.devices",
            "name=n,location=pci:0000:01:00.0,native=1,gbps=1;name=fast,location=pci:0000:02:00.0,"
            "gbps=6;"
            "name=t2,location=pci:0000:04:00.0");
    rig_look(&rig);
    static const struct {
        const char *name;
        bool is_usable;
        const char *reason;
    } expected[] = {
        {"e", false, "same device (pci:0000:01:00.0) as n of plugin nil, which is native"},
        {"n", true, ""},
        {"slow", false, "as fast of plugin nil, which reports more bandwidth"},
        {"fast", true, ""},
        {"s1", true, ""}, /* one plugin's own devices are never merged */
        {"s2", true, ""},
        {"t1", true, ""},
        {"t2", false, "as t1 of plugin null, which was found first"},
    };
    for (size_t i = 0; i < 8; i++) {
        const peri_device *d =
            peri_registry_device(rig.registry, rig_device(&rig, expected[i].name));
        assert_int_equal(d->is_usable, expected[i].is_usable);
        if (strstr(d->reason, expected[i].reason) == NULL)
            fail_msg("%s: \"%s\"", expected[i].name, d->reason);
    }
    assert_int_equal(peri_registry_open(rig.registry, rig_device(&rig, "e"), &b, &err),
                     PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "device e of plugin null: same device");
    rig_fini(&rig);
}

/* ---- hardware that nobody drives
 * ----------------------------------------------------------------------- */

static void registry_reports_hardware_without_a_driver(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err;
    char *json;
    peri_topology_options o = {.size = sizeof o, .xml = PERI_SOURCE_DIR "/tests/topology/gpu.xml"};
    rig_init(&rig, NULL);
    peri_topology_free(rig.topology);
    assert_ok(peri_topology_new(&o, &rig.topology, &err), err);
    rig_look(&rig);
    assert_ok(peri_registry_to_json(rig.registry, &json, &err), err);
    assert_non_null(strstr(
        json, "NVIDIA device 10de:2330 at 0000:3b:00.0 is present (NVIDIA Corporation GH100 [H100 "
              "SXM5 80GB]); no plugin here drives it"));
    peri_free(json);
    rig_add(&rig, rig_plugin("no_driver"));
    rig_look(&rig);
    assert_ok(peri_registry_to_json(rig.registry, &json, &err), err);
    assert_non_null(strstr(json, "80GB]); plugin gpu says: libcuda.so.1 not found; libcuda.so.1 "
                                 "comes with the Debian package libcuda1"));
    assert_non_null(
        strstr(json, "AMD device 1002:74a0 at 0000:5e:00.0 is present; no plugin here drives it"));
    peri_free(json);
    rig_add(&rig, rig_null());
    rig_set(&rig, "null.devices",
            "name=gpu0,location=pci:0000:3b:00.0;name=slice,location=pci:0000:5e:00.0#1");
    rig_look(&rig);
    assert_ok(peri_registry_to_json(rig.registry, &json, &err), err);
    assert_null(strstr(json, "is present"));
    peri_free(json);
    rig_fini(&rig);
}

/* ---- JSON ---- */

static void registry_tells_everything_as_json(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err;
    char *text;
    rig_init(&rig, ONE_NODE);
    rig_add(&rig, rig_null());
    rig_add(&rig, rig_plugin("bad_no_symbol"));
    rig_set(&rig, "null.devices", "name=quo\"te,gbps=12.5,mem=1e6");
    rig_look(&rig);
    assert_ok(peri_registry_to_json(rig.registry, &text, &err), err);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(j);
    static const char *const keys[] = {"cpu",     "memory_nodes", "pci",  "plugins",
                                       "devices", "figures",      "notes"};
    for (size_t i = 0; i < 7; i++)
        assert_non_null(json_object_get(j, keys[i]));
    assert_int_equal(json_object_size(j), 7);
    const json_t *f = json_array_get(json_object_get(j, "figures"), 0);
    assert_string_equal(json_string_value(json_object_get(f, "from")), "declared by the plugin");
    assert_true(json_real_value(json_object_get(f, "value")) == 12.5);
    const json_t *d = json_array_get(json_object_get(j, "devices"), 0);
    assert_string_equal(json_string_value(json_object_get(d, "name")), "quo\"te");
    assert_true(json_real_value(json_object_get(d, "mem_gbps")) == 12.5);
    assert_int_equal(json_integer_value(json_object_get(d, "mem_total")), 1000000);
    const json_t *p = json_array_get(json_object_get(j, "plugins"), 1);
    assert_string_equal(json_string_value(json_object_get(p, "state")), "refused");
    const json_t *n = json_array_get(json_object_get(j, "memory_nodes"), 0);
    assert_int_equal(json_integer_value(json_object_get(n, "threads")), 2);
    json_decref(j);
    peri_free(text);
    rig_fini(&rig);
}

/* ---- the cache
 * ------------------------------------------------------------------------------------------- */

/* Look again with a probe program that does not exist: only the cache can answer. */
static void look_at_cache_only(peri_rig *rig) {
    rig->is_probe_missing = true;
    rig_look(rig);
    rig->is_probe_missing = false;
}

static void cache_answers_while_nothing_changes(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    rig.want_cache = true;
    rig_add(&rig, rig_copy(&rig, rig_null(), "null.so", 0755));
    rig_set(&rig, "null.devices", "name=cached,mem=1e9");
    rig_look(&rig);
    look_at_cache_only(&rig);
    size_t i = rig_device(&rig, "cached");
    assert_int_equal(peri_registry_device(rig.registry, i)->info.mem_free, 0);
    peri_backend *b = NULL;
    peri_error err;
    assert_ok(peri_registry_open(rig.registry, i, &b, &err), err);
    assert_int_equal(b->info.mem_free, 1000000000);
    peri_backend_close(b);
    /* Another option value, another answer. */
    rig_set(&rig, "null.devices", "name=other");
    look_at_cache_only(&rig);
    assert_int_equal(peri_registry_n_device(rig.registry), 0);
    rig_look(&rig);
    rig_device(&rig, "other");
    look_at_cache_only(&rig);
    rig_device(&rig, "other");
    /* Another file. */
    rig_copy(&rig, rig_null(), "null.so", 0755);
    look_at_cache_only(&rig);
    assert_int_equal(peri_registry_n_device(rig.registry), 0);
    /* No devices is never remembered. */
    rig_set(&rig, "null.devices", NULL);
    rig_look(&rig);
    assert_reason(rig_file(&rig, "null.so"), PERI_PLUGIN_NO_DEVICE, "names none");
    look_at_cache_only(&rig);
    assert_reason(rig_file(&rig, "null.so"), PERI_PLUGIN_REFUSED, "cannot be started");
    rig_fini(&rig);
}

static void second_crash_puts_a_plugin_in_quarantine(void **state) {
    (void)state;
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    rig.want_cache = true;
    rig_add(&rig, rig_copy(&rig, rig_plugin("bad_ill"), "ill.so", 0755));
    for (int i = 0; i < 2; i++) {
        rig_look(&rig);
        assert_reason(rig_file(&rig, "ill.so"), PERI_PLUGIN_REFUSED, "crashed while loading");
        assert_null(strstr(rig_file(&rig, "ill.so")->reason, "quarantine"));
    }
    rig_look(&rig);
    assert_reason(rig_file(&rig, "ill.so"), PERI_PLUGIN_REFUSED,
                  "in quarantine until its file changes, after 2 times: crashed while loading, in "
                  "a constructor (SIGILL)");
    rig_copy(&rig, rig_plugin("new_header"), "ill.so", 0755);
    rig_look(&rig);
    assert_int_equal(rig_file(&rig, "ill.so")->state, PERI_PLUGIN_USABLE);
    rig_fini(&rig);
}

static void cache_that_is_damaged_or_unwritable_is_no_error(void **state) {
    (void)state;
    static const char *const contents[] = {
        "", "not json", "[]", "{\"plugins\":[],\"bandwidth\":{}}",
        "{\"plugins\":{\"%s\":{\"id\":3,\"asked\":{},\"answer\":[]}},\"bandwidth\":{}}"};
    peri_rig rig;
    rig_init(&rig, ONE_NODE);
    rig.want_cache = true;
    rig_add(&rig, rig_copy(&rig, rig_null(), "null.so", 0755));
    rig_set(&rig, "null.devices", "name=a");
    assert_int_equal(mkdir(rig_path(&rig, "cache"), 0700), 0);
    assert_int_equal(mkdir(rig_path(&rig, "cache/perigee"), 0700), 0);
    for (size_t i = 0; i < 5; i++) {
        FILE *f = fopen(rig_path(&rig, "cache/perigee/probe.json"), "w");
        assert_non_null(f);
        char text[1024];
        const char *mark = strstr(contents[i], "%s");
        if (mark != NULL)
            snprintf(text, sizeof text, "%.*s%s%s", (int)(mark - contents[i]), contents[i],
                     rig.file[0], mark + 2);
        else
            snprintf(text, sizeof text, "%s", contents[i]);
        fputs(text, f);
        fclose(f);
        rig_look(&rig);
        rig_device(&rig, "a");
    }
    setenv("XDG_CACHE_HOME", "/proc/self/nowhere", 1);
    rig_look(&rig);
    rig_device(&rig, "a");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    rig_look(&rig);
    rig_device(&rig, "a");
    rig_fini(&rig);
}

/* ---- lack of memory
 * ---------------------------------------------------------------------------------------- */

/* Whatever fails, the outcome is a working registry (when it failed beside the point, as in the
 * cache) or NOMEM. */
static void registry_survives_lack_of_memory(void **state) {
    (void)state;
    peri_rig rig;
    uint64_t n = 1;
    uint32_t n_failed = 0;
    rig_init(&rig, ONE_NODE);
    peri_topology_free(rig.topology);
    rig.topology = NULL;
    peri_fault *f = peri_fault_alloc_install();
    peri_error err;
    peri_topology_options o = {.size = sizeof o, .synthetic = ONE_NODE};
    assert_ok(peri_topology_new(&o, &rig.topology, &err), err);
    uint64_t held = f->live;
    rig.want_cache = true;
    rig_add(&rig, rig_null());
    rig_add(&rig, rig_plugin("nil"));
    rig_add(&rig, rig_plugin("bad_no_note"));
    rig_set(&rig, "null.devices", "name=a,location=x");
    rig_set(&rig, "nil.devices", "name=b,location=x,native=1");
    for (int persistent = 0; persistent <= 1; persistent++) {
        for (n = 1;; n++) {
            unlink(rig_path(&rig, "cache/perigee/probe.json"));
            f->calls = 0;
            f->fail_at = n;
            f->persistent = persistent != 0;
            peri_status status = rig_try(&rig, &err);
            bool is_past_end = f->calls < n;
            f->fail_at = 0;
            if (status != PERI_OK) {
                n_failed++;
                assert_null(rig.registry);
                if (status != PERI_E_NOMEM || err.code != PERI_E_NOMEM)
                    fail_msg("call %u: %d, %s", (unsigned)n, (int)status, err.text);
            } else {
                if (peri_registry_n_device(rig.registry) != 2)
                    fail_msg("call %u of %u: \"%s\", \"%s\"", (unsigned)n, (unsigned)f->calls,
                             rig_file(&rig, "/null.so")->reason, rig_file(&rig, "/nil.so")->reason);
            }
            peri_registry_free(rig.registry);
            rig.registry = NULL;
            if (f->live != held)
                fail_msg("call %u: %d blocks leaked", (unsigned)n, (int)(f->live - held));
            if (is_past_end) break;
            if (persistent && n > 40) n += 12; /* the long tail fails alike */
        }
        assert_true(n > 60);
    }
    assert_true(n_failed > 60);
    peri_topology_free(rig.topology);
    rig.topology = NULL;
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
    rig_fini(&rig);
}

static void opening_and_json_survive_lack_of_memory(void **state) {
    (void)state;
    peri_rig rig;
    peri_error err;
    rig_init(&rig, ONE_NODE);
    peri_topology_free(rig.topology);
    rig.topology = NULL;
    peri_fault *f = peri_fault_alloc_install();
    peri_topology_options o = {.size = sizeof o, .synthetic = ONE_NODE};
    assert_ok(peri_topology_new(&o, &rig.topology, &err), err);
    rig_add(&rig, rig_null());
    rig_set(&rig, "null.devices", "name=a");
    rig_look(&rig);
    uint64_t held = f->live;
    for (uint64_t n = 1;; n++) {
        peri_backend *b = NULL;
        char *json = NULL;
        f->calls = 0;
        f->fail_at = n;
        peri_status opened = peri_registry_open(rig.registry, 0, &b, &err);
        peri_status told = peri_registry_to_json(rig.registry, &json, &err);
        bool is_past_end = f->calls < n;
        f->fail_at = 0;
        assert_true((b != NULL) == (opened == PERI_OK) && (json != NULL) == (told == PERI_OK));
        if (!is_past_end && opened == PERI_OK && told == PERI_OK)
            fail_msg("call %u of %u failed unnoticed", (unsigned)n, (unsigned)f->calls);
        peri_backend_close(b);
        peri_free(json);
        assert_int_equal(f->live, held);
        if (is_past_end) break;
    }
    peri_registry_free(rig.registry);
    rig.registry = NULL;
    peri_topology_free(rig.topology);
    rig.topology = NULL;
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
    rig_fini(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registry_refuses_each_bad_plugin_and_goes_on),
        cmocka_unit_test(registry_refuses_files_that_are_no_plugins),
        cmocka_unit_test(registry_refuses_files_of_other_users),
        cmocka_unit_test(registry_survives_a_missing_probe_program),
        cmocka_unit_test(registry_opens_plugins_of_older_and_newer_headers),
        cmocka_unit_test(registry_refuses_to_open_liars),
        cmocka_unit_test(registry_notices_a_file_that_changed),
        cmocka_unit_test(null_plugin_answers_and_writes_zeros),
        cmocka_unit_test(null_plugin_offers_nothing_by_itself),
        cmocka_unit_test(probing_reports_faults_of_device),
        cmocka_unit_test(options_come_from_caller_then_environment),
        cmocka_unit_test(registry_searches_in_the_stated_order),
        cmocka_unit_test(registry_lists_a_file_once),
        cmocka_unit_test(registry_keeps_the_best_plugin_of_a_device),
        cmocka_unit_test(registry_reports_hardware_without_a_driver),
        cmocka_unit_test(registry_tells_everything_as_json),
        cmocka_unit_test(cache_answers_while_nothing_changes),
        cmocka_unit_test(second_crash_puts_a_plugin_in_quarantine),
        cmocka_unit_test(cache_that_is_damaged_or_unwritable_is_no_error),
        cmocka_unit_test(registry_survives_lack_of_memory),
        cmocka_unit_test(opening_and_json_survive_lack_of_memory),
    };
    return peri_run_tests(tests);
}
