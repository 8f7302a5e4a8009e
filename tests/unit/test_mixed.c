/* SPDX-License-Identifier: MIT
 *
 * One model on several devices: twins (tests/plugin/twin.c) compute by the CPU plugin, so whatever
 * is spread how, every logit has the bits of the CPU alone. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "api/api_int.h"
#include "fault.h"
#include "perigee/perigee.h"
#include "rig.h"

enum { V = 300, N_TOK = 90, N_MORE = 6 };
#define TWINS PERI_BINARY_DIR "/tests/plugin/twin.so"

typedef struct world {
    peri_runtime *rt;
    peri_model *m;
    char said[2000]; /* warnings, one per line */
} world;

static void hear(void *user, int level, const char *line) {
    world *w = user;
    size_t n = strlen(w->said);
    if (level >= 2) snprintf(w->said + n, sizeof w->said - n, "%s\n", line);
}

static void open_runtime(world *w, const char *devices, bool is_strict) {
    char list[600], base[400];
    const char *settings[] = {list, base, "place.figures=declared"}, *files[] = {TWINS};
    *w = (world){0};
    snprintf(list, sizeof list, "twin.devices=%s", devices);
    snprintf(base, sizeof base, "twin.base=%s/cpu.so", PERI_PLUGIN_DIR);
    peri_runtime_options o = {.size = sizeof o,
                              .n_thread = 1,
                              .plugin_files = files,
                              .n_plugin_file = 1,
                              .settings = settings,
                              .n_setting = 3,
                              .script_dir = PERI_SOURCE_DIR "/scripts",
                              .message = hear,
                              .message_user = w,
                              .is_strict = is_strict};
    peri_error err;
    assert_ok(peri_runtime_new_in(&o, PERI_LIBRARY_DIR, &w->rt, &err), err);
}

static peri_status open_file(world *w, const char *path, const char *device, peri_error *err) {
    peri_model_options o = {
        .size = sizeof o, .n_ctx = 256, .n_session = 3, .n_batch = 32, .device = device};
    return peri_model_open(w->rt, path, &o, &w->m, err);
}

static peri_status open_on(world *w, const char *arch, const char *device, peri_error *err) {
    return open_file(w, rig_tiny("model.gguf", arch, 0, 1), device, err);
}

static peri_status open_placed(world *w, const char *arch, const char *device, const char *place,
                               peri_error *err) {
    peri_model_options o = {.size = sizeof o,
                            .n_ctx = 256,
                            .n_session = 3,
                            .n_batch = 32,
                            .device = device,
                            .place = place};
    return peri_model_open(w->rt, rig_tiny("model.gguf", arch, 0, 1), &o, &w->m, err);
}

static void close_world(world *w) {
    peri_model_close(w->m);
    peri_runtime_free(w->rt);
}

static void fill_tokens(int32_t *tok, size_t n, uint32_t salt) {
    for (size_t i = 0; i < n; i++)
        tok[i] = (int32_t)((i * 7919 + salt * 104729 + i * i) % V);
}

/* Logits of every token of a prompt, then of single tokens. */
static void compute(peri_model *m, float *logits) {
    int32_t tok[N_TOK + N_MORE];
    peri_session *s;
    peri_error err;
    fill_tokens(tok, N_TOK + N_MORE, 1);
    assert_ok(peri_session_new(m, NULL, &s, &err), err);
    peri_feed f = {.session = s, .tok = tok, .n_tok = N_TOK, .logits = logits, .all_logits = true};
    assert_ok(peri_model_step(m, &f, 1, 0, &err), err);
    for (size_t i = N_TOK; i < N_TOK + N_MORE; i++) {
        peri_feed one = {.session = s, .tok = &tok[i], .n_tok = 1, .logits = logits + i * V};
        assert_ok(peri_model_step(m, &one, 1, 0, &err), err);
    }
    peri_session_free(s);
}

static char *explain(peri_model *m) {
    char *text;
    peri_error err;
    assert_ok(peri_model_explain(m, &text, &err), err);
    return text;
}

static void assert_explains(peri_model *m, const char *what) {
    char *text = explain(m);
    if (!strstr(text, what)) fail_msg("\"%s\" is not in %s", what, text);
    peri_text_free(text);
}

static float alone[(N_TOK + N_MORE) * V], mixed[(N_TOK + N_MORE) * V];

static void compute_alone(const char *arch) {
    world w;
    peri_error err;
    open_runtime(&w, "name=a", false);
    assert_ok(open_on(&w, arch, "cpu", &err), err);
    compute(w.m, alone);
    close_world(&w);
}

static void assert_same_bits(world *w, const char *about) {
    memset(mixed, 0, sizeof mixed);
    compute(w->m, mixed);
    for (size_t i = 0; i < sizeof mixed / sizeof *mixed; i++)
        if (memcmp(&alone[i], &mixed[i], sizeof *mixed) != 0)
            fail_msg("%s: token %zu, logit %zu: %g, alone %g", about, i / V, i % V,
                     (double)mixed[i], (double)alone[i]);
}

/* ---- what is declined goes elsewhere ---- */

static void declined_ops_run_elsewhere_with_the_same_bits(void **state) {
    (void)state;
    static const char *const archs[] = {"llama", "gemma3", "qwen3moe", "phi3"};
    static const char *const declines[] = {"type=0",       "no=ROPE",      "no=ATTN",
                                           "no=KV_APPEND", "no=EMBED",     "no=NORM",
                                           "no=GLU",       "no=ADD",       "no=LINEAR_EXPERTS",
                                           "no=ROUTE",     "no=ROWS+ATTN", "no=EXPERT_SUM+GLU",
                                           "no=LINEAR+GLU"};
    static const char *const memories[] = {"own=1", "native=0"};
    peri_error err;
    for (size_t a = 0; a < sizeof archs / sizeof *archs; a++) {
        compute_alone(archs[a]);
        for (size_t i = 0; i < sizeof declines / sizeof *declines; i++) {
            char devices[200];
            world w;
            snprintf(devices, sizeof devices, "name=a,%s,%s;name=b,%s", declines[i],
                     memories[(a + i) % 2], memories[(a + i) / 2 % 2]);
            open_runtime(&w, devices, false);
            assert_ok(open_on(&w, archs[a], "a,b", &err), err);
            assert_same_bits(&w, devices);
            close_world(&w);
        }
    }
}

static void what_runs_elsewhere_is_explained(void **state) {
    (void)state;
    world w;
    peri_error err;
    open_runtime(&w, "name=a,own=1,no=ROPE;name=b,own=1", false);
    assert_ok(open_on(&w, "llama", "a,b", &err), err);
    assert_string_equal(peri_model_device(w.m), "a,b");
    assert_explains(w.m,
                    "\"op\": \"ROPE\",\n          \"count\": 4,\n          \"layers\": \"0-1\",\n"
                    "          \"device\": \"b\",\n          \"declined_by\": \"a\",\n"
                    "          \"why\": \"no ROPE here\"");
    /* q and k of two layers, there and back */
    assert_explains(w.m, "\"copies_per_token\": 8,\n    \"bytes_per_token\": 1536");
    close_world(&w);
    open_runtime(&w, "name=a;name=b", false);
    assert_ok(open_on(&w, "llama", "a,b", &err), err);
    assert_string_equal(peri_model_device(w.m), "a"); /* b is not needed */
    assert_explains(w.m, "\"copies_per_token\": 0");
    close_world(&w);
}

/* A device that would not take the matrices of a fused op in pieces either leaves it whole to one
 * that takes it; one that would take them gets the pieces. */
static void fused_ops_go_elsewhere_whole(void **state) {
    (void)state;
    static const char *const declines[] = {"no=GATE_UP_GLU+LINEAR", "no=GATE_UP_GLU"};
    static const char *const lowered[] = {"\"op\": \"GLU\"",
                                          "\"op\": \"GATE_UP_GLU\",\n          \"w"};
    peri_error err;
    compute_alone("llama");
    for (int i = 0; i < 2; i++) {
        char devices[100];
        world w;
        snprintf(devices, sizeof devices, "name=a,own=1,%s;name=b,own=1", declines[i]);
        open_runtime(&w, devices, false);
        assert_ok(open_on(&w, "llama", "a,b", &err), err);
        char *text = explain(w.m);
        if (strstr(text, lowered[i])) fail_msg("%s: \"%s\" is in %s", devices, lowered[i], text);
        peri_text_free(text);
        assert_explains(w.m, lowered[1 - i]);
        assert_same_bits(&w, devices);
        close_world(&w);
    }
}

/* A device's activations are no more than its own ops need. */
static void arenas_are_as_large_as_their_ops_need(void **state) {
    (void)state;
    world w;
    peri_error err;
    open_runtime(&w, "name=a,own=1;name=b,own=1", false);
    assert_ok(open_placed(&w, "llama", "a,b", "embedding on b; head on b", &err), err);
    const peri_engine *e = w.m->engine;
    uint64_t whole = e->plan[PERI_PLAN_PREFILL]->program->arena_bytes;
    assert_in_range(e->seat[0].arena.bytes, 1, whole);
    assert_in_range(e->seat[1].arena.bytes, 1, whole - 1); /* the widest rows are the layers' */
    close_world(&w);
}

static void what_nobody_takes_is_named_with_all_reasons(void **state) {
    (void)state;
    world w;
    peri_error err;
    open_runtime(&w, "name=a,no=ROPE;name=b,no=ROPE+NORM", false);
    assert_int_equal(open_on(&w, "llama", "a,b", &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED,
                 "no device can run ROPE of layer 0: a: no ROPE here; b: no ROPE here");
    assert_int_equal(open_on(&w, "llama", "b", &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "device b cannot run");
    close_world(&w);
    open_runtime(&w, "name=a,no=KV_APPEND;name=b,no=ATTN", false);
    assert_int_equal(open_on(&w, "llama", "a,b", &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "its keys and values cannot lie there");
    close_world(&w);
}

static void strict_refuses_what_is_not_where_it_is_wanted(void **state) {
    (void)state;
    world w;
    peri_error err;
    open_runtime(&w, "name=a,no=ROPE;name=b", true);
    assert_int_equal(open_on(&w, "llama", "a,b", &err), PERI_E_UNSUPPORTED);
    assert_error(
        &err, PERI_E_UNSUPPORTED,
        "--strict: device a declines ROPE of layers 0 to 1 (4 times): no ROPE here; b would "
        "run it");
    assert_ok(open_on(&w, "llama", "b,a", &err), err);
    close_world(&w);
}

/* ---- what runs together is compiled ---- */

static void a_step_on_one_device_is_compiled_whole(void **state) {
    (void)state;
    world w;
    peri_error err;
    unsigned last, n_ops, n_tok;
    compute_alone("qwen3moe");
    open_runtime(&w, "name=a,own=1,compiles=1", false);
    assert_ok(open_on(&w, "qwen3moe", "a", &err), err);
    assert_int_equal(sscanf(w.said, "a: compiled 0 to %u of %u for %u", &last, &n_ops, &n_tok), 3);
    assert_int_equal(last + 1, n_ops);
    assert_int_equal(n_tok, 16); /* decode */
    assert_non_null(strstr(w.said, " for 32\n"));
    assert_same_bits(&w, "compiled");
    close_world(&w);
    assert_null(strstr(w.said, "is left"));
}

static void crossings_cut_what_is_compiled(void **state) {
    (void)state;
    world w;
    peri_error err;
    compute_alone("llama");
    open_runtime(&w, "name=a,no=ROPE,compiles=1;name=b,own=1,compiles=1", false);
    assert_ok(open_on(&w, "llama", "a,b", &err), err);
    assert_non_null(strstr(w.said, "a: compiled 0 to "));
    assert_non_null(strstr(w.said, "b: compiled "));
    assert_same_bits(&w, "compiled, two devices");
    close_world(&w);
    assert_null(strstr(w.said, "is left"));
}

static void failures_of_compiled_ops_are_named(void **state) {
    (void)state;
    world w;
    peri_error err;
    peri_session *s;
    int32_t tok[1] = {1};
    open_runtime(&w, "name=a,compiles=2", false);
    assert_int_not_equal(open_on(&w, "llama", "a", &err), PERI_OK);
    assert_error(&err, PERI_E_OTHER, "device a: compiling ops 0 to ");
    assert_error(&err, PERI_E_OTHER, ": no compiling here");
    close_world(&w);
    open_runtime(&w, "name=a,compiles=3", false);
    assert_ok(open_on(&w, "llama", "a", &err), err);
    assert_ok(peri_session_new(w.m, NULL, &s, &err), err);
    peri_feed f = {.session = s, .tok = tok, .n_tok = 1};
    assert_int_equal(peri_model_step(w.m, &f, 1, 0, &err), PERI_E_OTHER);
    assert_error(&err, PERI_E_OTHER, "device a: ops 0 to ");
    assert_error(&err, PERI_E_OTHER, "layers -1 to -1: no running here");
    peri_session_free(s);
    close_world(&w);
}

/* ---- memory ---- */

static void layers_are_spread_by_memory(void **state) {
    (void)state;
    /* Of llama a layer takes 124 KB of weights and 98 KB of keys and values, the head and the
     * embedding 77 KB each, activations 37 KB. */
    static const char devices[] = "name=a,own=1,mem=400e3,gbps=0.01;name=b,own=1,gbps=0.005";
    world w;
    peri_error err;
    compute_alone("llama");
    open_runtime(&w, devices, false);
    assert_ok(open_on(&w, "llama", "a,b", &err), err);
    assert_explains(
        w.m, "embedding on b\",\n    \"layer 0 on a\",\n    \"layer 1 on b\",\n    \"head on a\"");
    assert_same_bits(&w, devices);
    close_world(&w);
}

static void sessions_work_over_two_devices(void **state) {
    (void)state;
    int32_t tok[N_TOK], next[3][8];
    char path[300];
    peri_error err;
    peri_session *s[3];
    world w;
    open_runtime(&w, "name=a,own=1,mem=400e3,gbps=0.01;name=b,own=1,gbps=0.005", false);
    assert_ok(open_on(&w, "llama", "a,b", &err), err);
    assert_string_equal(peri_model_device(w.m), "a,b");
    fill_tokens(tok, N_TOK, 2);
    peri_session_options o = {.size = sizeof o, .seed = 7, .temp = 1, .top_k = 50};
    assert_ok(peri_session_new(w.m, &o, &s[0], &err), err);
    assert_ok(peri_session_feed(s[0], tok, N_TOK, &err), err);
    snprintf(path, sizeof path, "%s/session.bin", rig_dir());
    assert_ok(peri_session_save(s[0], path, &err), err);
    assert_ok(peri_session_fork(s[0], &s[1], &err), err);
    assert_ok(peri_session_feed(s[1], tok, 5, &err), err); /* a copy of a shared block */
    for (int i = 0; i < 8; i++) {
        assert_ok(peri_session_sample(s[0], &next[0][i], &err), err);
        assert_ok(peri_session_feed(s[0], &next[0][i], 1, &err), err);
    }
    assert_ok(peri_session_rewind(s[0], N_TOK, &err), err);
    for (int i = 0; i < 8; i++) {
        assert_ok(peri_session_sample(s[0], &next[1][i], &err), err);
        assert_ok(peri_session_feed(s[0], &next[1][i], 1, &err), err);
    }
    assert_memory_equal(next[0], next[1], sizeof next[0]);
    peri_session_free(s[0]);
    assert_ok(peri_session_new(w.m, &o, &s[2], &err), err);
    assert_ok(peri_session_feed(s[2], tok, N_TOK, &err), err); /* the first block is known */
    peri_session_stats st = {.size = sizeof st};
    peri_session_get_stats(s[2], &st);
    assert_int_equal(st.n_cached, 64);
    peri_session_free(s[1]);
    peri_session_free(s[2]);
    peri_model_close(w.m);
    /* what was saved goes on where everything lies on one device */
    assert_ok(open_on(&w, "llama", "cpu", &err), err);
    assert_ok(peri_model_restore(w.m, path, &s[0], &err), err);
    for (int i = 0; i < 8; i++) {
        assert_ok(peri_session_sample(s[0], &next[1][i], &err), err);
        assert_ok(peri_session_feed(s[0], &next[1][i], 1, &err), err);
    }
    assert_memory_equal(next[0], next[1], sizeof next[0]);
    peri_session_free(s[0]);
    close_world(&w);
}

static void a_device_that_runs_out_of_memory_gets_less(void **state) {
    (void)state;
    world w;
    peri_error err;
    compute_alone("llama");
    open_runtime(&w, "name=a,own=1,limit=600e3;name=b", false);
    assert_ok(open_on(&w, "llama", "a,b", &err), err);
    if (!strstr(w.said, "device a ran out of memory (")) fail_msg("said: %s", w.said);
    assert_string_equal(peri_model_device(w.m), "a,b");
    assert_same_bits(&w, "out of memory");
    close_world(&w);
    open_runtime(&w, "name=a,own=1,limit=1000;name=b", false); /* not even activations */
    assert_ok(open_on(&w, "llama", "a,b", &err), err);
    if (!strstr(w.said, "device a was preferred but cannot run this model")) fail_msg("%s", w.said);
    assert_string_equal(peri_model_device(w.m), "b");
    close_world(&w);
    open_runtime(&w, "name=a,own=1,limit=600e3", false);
    assert_int_equal(open_on(&w, "llama", "a", &err), PERI_E_NOMEM);
    assert_error(&err, PERI_E_NOMEM, "device a: ");
    close_world(&w);
    open_runtime(&w, "name=a,mem=100e3;name=b,mem=100e3", false);
    assert_int_equal(open_on(&w, "llama", "a,b", &err), PERI_E_NOMEM);
    assert_error(&err, PERI_E_NOMEM, "not enough memory: weights, keys and values need ");
    close_world(&w);
}

/* ---- rules ---- */

static void rules_decide_what_runs_where_with_the_same_bits(void **state) {
    (void)state;
    static const struct {
        const char *arch, *device, *place, *uses, *says[2];
    } cases[] = {
        {"qwen3moe",
         "a,b",
         "experts on b; head on b",
         "a,b",
         {"\"experts of layers 0-1 on b\",\n    \"head on b\"",
          "\"rule\": \"experts on b\",\n      \"device\": \"b\",\n      \"decides\": 2"}},
        {"qwen3moe",
         "a,b",
         "layer 1 on b\nexperts 1-1 on a",
         "a,b",
         {"\"layer 0 on a\",\n    \"layer 1 on b\",\n    \"experts of layers 0-1 on a\"",
          "\"rule\": \"layer 1 on b\",\n      \"device\": \"b\",\n      \"decides\": 1"}},
        /* A device that only a rule names, by the name of its plugin. */
        {"llama",
         "a",
         "layers 0-0 on cpu",
         "a,cpu",
         {"\"layer 0 on cpu\",\n    \"layer 1 on a\"", "\"device\": \"cpu\""}},
        {"llama",
         NULL,
         "embedding on b; head on a",
         "cpu,b,a", /* none is asked for */
         {"\"embedding on b\",\n    \"layers 0-1 on cpu\",\n    \"head on a\"", "\"rules\": ["}},
    };
    peri_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        world w;
        compute_alone(cases[i].arch);
        open_runtime(&w, "name=a,own=1;name=b", true);
        assert_ok(open_placed(&w, cases[i].arch, cases[i].device, cases[i].place, &err), err);
        assert_string_equal(peri_model_device(w.m), cases[i].uses);
        for (int k = 0; k < 2; k++)
            assert_explains(w.m, cases[i].says[k]);
        assert_same_bits(&w, cases[i].place);
        close_world(&w);
    }
}

/* Keys and values lie where a rule puts the layer. */
static void rules_take_keys_and_values_along(void **state) {
    (void)state;
    world w;
    peri_error err;
    open_runtime(&w, "name=a,own=1;name=b,own=1", true);
    assert_ok(open_placed(&w, "llama", "a,b", "layer 1 on b", &err), err);
    const peri_engine *e = w.m->engine;
    assert_true(e->kv_at[0] == 0 && e->kv_at[1] == 1);
    assert_int_equal(e->device[1].kv_bytes, e->kv.layer_bytes[1]);
    assert_null(e->device[1].pool_buf[0]);
    close_world(&w);
}

/* Each device's memory has the pools of its layers and no more: in host memory one behind the
 * other. */
static void pools_of_host_memory_are_one_block(void **state) {
    (void)state;
    world w;
    peri_error err;
    open_runtime(&w, "name=a;name=b,own=1", true);
    assert_ok(open_placed(&w, "llama", "a", NULL, &err), err);
    const peri_engine *e = w.m->engine;
    const char *at = e->device[0].pools.host;
    assert_non_null(at);
    for (int32_t i = 0; i < e->a->n_layer; i++) {
        assert_ptr_equal(e->pool[i].host, at);
        assert_int_equal((uintptr_t)at % 64, 0);
        assert_int_equal(e->pool[i].bytes, e->kv.layer_bytes[i]);
        assert_ptr_equal(e->device[0].pool_buf[i], e->pool[i].buf);
        at += e->pool[i].bytes;
    }
    assert_int_equal(e->device[0].pools.bytes, e->kv.bytes);
    close_world(&w);
    open_runtime(&w, "name=a;name=b,own=1", true);
    assert_ok(open_placed(&w, "llama", "a,b", "layer 1 on b", &err), err);
    e = w.m->engine;
    assert_ptr_equal(e->pool[0].host, e->device[0].pools.host);
    assert_int_equal(e->device[0].pools.bytes, e->kv.layer_bytes[0]);
    assert_null(e->pool[1].host);
    assert_null(e->device[1].pools.host);
    close_world(&w);
}

static void rules_that_cannot_be_kept_are_errors(void **state) {
    (void)state;
    static const struct {
        const char *place;
        peri_status status;
        const char *says;
    } cases[] = {
        {"head on a; layer 0 on gpu7", PERI_E_NO_DEVICE,
         "rules of placement: column 12: device gpu7: no such device or plugin; there are: "},
        {"layers 1-2 on b", PERI_E_RANGE,
         "rules of placement: column 1: \"layers 1-2 on b\": the model has layers 0 to 1"},
        {"layers on", PERI_E_INVALID, "rules of placement: column 10: found the end of the rule"},
        {"layers on small", PERI_E_NOMEM,
         "device small has 0 MiB, and what rules of placement put there needs 0 MiB"},
        {"layers on tiny", PERI_E_NOMEM, "device tiny: using host memory: "}};
    world w;
    peri_error err;
    open_runtime(&w, "name=a;name=b;name=small,own=1,mem=200e3;name=tiny,own=1,limit=90e3", false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(open_placed(&w, "llama", "a", cases[i].place, &err), cases[i].status);
        assert_error(&err, cases[i].status, cases[i].says);
    }
    assert_null(strstr(w.said, "using a")); /* nobody stood in for tiny */
    assert_ok(open_placed(&w, "llama", "a", "experts on b", &err), err);
    if (!strstr(w.said, "\"experts on b\" decides nothing")) fail_msg("said: %s", w.said);
    close_world(&w);
    open_runtime(&w, "name=a;name=b,no=ROPE", true);
    assert_int_equal(open_placed(&w, "llama", "a", "experts on b", &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "column 1: \"experts on b\" decides nothing");
    assert_int_equal(open_placed(&w, "llama", "a", "layer 0 on b", &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "--strict: device b declines ROPE");
    close_world(&w);
}

/* ---- without being asked ---- */

static void the_processor_helps_a_device_that_cannot(void **state) {
    (void)state;
    world w;
    peri_error err;
    compute_alone("qwen3");
    open_runtime(&w, "name=a,native=1,own=1,gbps=1000,no=ROPE", false);
    assert_ok(open_on(&w, "qwen3", NULL, &err), err);
    assert_string_equal(peri_model_device(w.m), "a,cpu");
    if (!strstr(w.said, "cannot run all of this model")) fail_msg("said: %s", w.said);
    assert_same_bits(&w, "with the processor");
    close_world(&w);
}

static void steady_steps_allocate_nothing(void **state) {
    (void)state;
    world w;
    peri_error err;
    peri_session *s;
    int32_t tok[N_TOK];
    open_runtime(&w, "name=a,own=1,no=ROPE;name=b,own=1", false);
    assert_ok(open_on(&w, "llama", "a,b", &err), err);
    assert_ok(peri_session_new(w.m, NULL, &s, &err), err);
    fill_tokens(tok, N_TOK, 3);
    assert_ok(peri_session_feed(s, tok, 40, &err), err);
    peri_model_step(w.m, NULL, 0, 0, &err);
    uint64_t calls = 0;
    peri_fault *f = peri_fault_alloc_install();
    for (int i = 0; i < 8; i++) {
        if (i == 4) calls = f->calls;
        peri_feed one = {.session = s, .tok = &tok[i], .n_tok = 1};
        assert_ok(peri_model_step(w.m, &one, 1, 0, &err), err);
    }
    assert_int_equal(f->calls, calls);
    peri_fault_alloc_remove();
    peri_session_free(s);
    close_world(&w);
}

/* With that allocation failing, the model opens (a device that fails may be left out) or not. */
static peri_status open_failing(world *w, const char *path, peri_fault fault, peri_fault *f) {
    peri_error err;
    *f = fault;
    peri_status st = open_file(w, path, "a,b", &err);
    if (st && st != PERI_E_NOMEM) fail_msg("allocation %d: %s", (int)fault.fail_at, err.text);
    peri_model_close(w->m);
    assert_int_equal(f->live, 0);
    return st;
}

static void failing_allocations_leave_clean_errors(void **state) {
    (void)state;
    world w;
    peri_error err;
    const char *path = rig_tiny("model.gguf", "llama", 0, 1);
    open_runtime(&w, "name=a,own=1,no=ROPE,mem=400e3,gbps=0.01;name=b,own=1,gbps=0.005", false);
    assert_ok(open_file(&w, path, "a,b", &err), err); /* what is made once is made */
    peri_model_close(w.m);
    peri_fault *f = peri_fault_alloc_install();
    assert_int_equal(open_failing(&w, path, (peri_fault){0}, f), PERI_OK);
    for (uint64_t i = 1, n = f->calls; i <= n; i += 1 + i / 16) {
        open_failing(&w, path, (peri_fault){.fail_at = i}, f);
        peri_status st = open_failing(&w, path, (peri_fault){.fail_at = i, .persistent = true}, f);
        assert_int_equal(st, PERI_E_NOMEM);
    }
    peri_fault_alloc_remove();
    peri_runtime_free(w.rt);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(declined_ops_run_elsewhere_with_the_same_bits),
        cmocka_unit_test(what_runs_elsewhere_is_explained),
        cmocka_unit_test(what_nobody_takes_is_named_with_all_reasons),
        cmocka_unit_test(strict_refuses_what_is_not_where_it_is_wanted),
        cmocka_unit_test(a_step_on_one_device_is_compiled_whole),
        cmocka_unit_test(crossings_cut_what_is_compiled),
        cmocka_unit_test(failures_of_compiled_ops_are_named),
        cmocka_unit_test(layers_are_spread_by_memory),
        cmocka_unit_test(sessions_work_over_two_devices),
        cmocka_unit_test(a_device_that_runs_out_of_memory_gets_less),
        cmocka_unit_test(fused_ops_go_elsewhere_whole),
        cmocka_unit_test(arenas_are_as_large_as_their_ops_need),
        cmocka_unit_test(rules_decide_what_runs_where_with_the_same_bits),
        cmocka_unit_test(rules_take_keys_and_values_along),
        cmocka_unit_test(pools_of_host_memory_are_one_block),
        cmocka_unit_test(rules_that_cannot_be_kept_are_errors),
        cmocka_unit_test(the_processor_helps_a_device_that_cannot),
        cmocka_unit_test(failing_allocations_leave_clean_errors),
        cmocka_unit_test(steady_steps_allocate_nothing),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
