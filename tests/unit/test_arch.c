/* SPDX-License-Identifier: MIT
 *
 * Architecture specs: every shipped spec flattens to its recorded text, helpers mean what they say,
 * and mistakes in a spec or a file are named.  PERI_UPDATE_GOLDEN=1 rewrites the recorded texts. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/text.h"
#include "fault.h"
#include "gguf_writer.h"
#include "model/arch.h"
#include "script/lua_arch.h"

static char tmp[256]; /* holds arch/ and model.gguf */

static int make_tmp(void **state) {
    (void)state;
    snprintf(tmp, sizeof tmp, "%s/test-arch-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(tmp)) return 1;
    char path[300];
    snprintf(path, sizeof path, "%s/arch", tmp);
    return mkdir(path, 0700);
}

static int remove_tmp(void **state) {
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", tmp);
    return system(command);
}

static void write_file(const char *name, const void *data, size_t size) {
    char path[400];
    peri_error err;
    snprintf(path, sizeof path, "%s/%s", tmp, name);
    assert_ok(peri_file_write(path, data, size, &err), err);
}

static peri_gguf *open_model(void) {
    char path[300];
    peri_error err;
    peri_gguf *g;
    snprintf(path, sizeof path, "%s/model.gguf", tmp);
    assert_ok(peri_gguf_open(path, &g, &err), err);
    return g;
}

/* A tiny model of a shipped architecture, opened. */
static peri_gguf *tiny(const char *arch) {
    peri_gguf_writer w;
    peri_text file = {0};
    gw_init(&w);
    gw_tiny_model(&w, arch, 0, 1);
    gw_finish(&w, &file);
    write_file("model.gguf", file.data, file.size);
    peri_text_fini(&file);
    gw_fini(&w);
    return open_model();
}

static void every_shipped_spec_flattens_to_its_recorded_text(void **state) {
    (void)state;
    static const char *const name[] = {"llama", "qwen2",  "qwen3", "qwen3moe",
                                       "phi3",  "gemma2", "gemma3"};
    peri_spec_source source = {PERI_SOURCE_DIR "/scripts"};
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        peri_gguf *g = tiny(name[i]);
        peri_arch *a;
        peri_error err;
        peri_text text = {0};
        char path[300], *want;
        size_t size;
        assert_ok(peri_lua_arch_load(&source, g, &a, &err), err);
        peri_arch_print(a, &text);
        assert_false(text.failed);
        snprintf(path, sizeof path, PERI_SOURCE_DIR "/tests/golden/arch/%s.txt", name[i]);
        if (getenv("PERI_UPDATE_GOLDEN"))
            assert_ok(peri_file_write(path, text.data, text.size, &err), err);
        assert_ok(peri_file_read(path, 1 << 20, &want, &size, &err), err);
        assert_string_equal(text.data, want);
        peri_free(want);
        peri_text_fini(&text);
        peri_arch_free(a);
        peri_gguf_close(g);
    }
}

/* A minimal file of architecture "toy": four layers, plus what `extra` adds. */
static peri_gguf *toy(void (*extra)(peri_gguf_writer *w)) {
    static const float zeros[64];
    peri_gguf_writer w;
    peri_text file = {0};
    gw_init(&w);
    gw_str(&w, "general.architecture", "toy");
    gw_u32(&w, "toy.block_count", 4);
    gw_u32(&w, "toy.context_length", 64);
    gw_u32(&w, "toy.embedding_length", 8);
    gw_u32(&w, "toy.attention.head_count", 2);
    if (extra) extra(&w);
    gw_tensor(&w, "token_embd.weight", 0, (const int64_t[]){8, 8}, 2, zeros, sizeof zeros);
    gw_tensor(&w, "blk.2.router.weight", 0, (const int64_t[]){8}, 1, zeros, 32);
    gw_finish(&w, &file);
    write_file("model.gguf", file.data, file.size);
    peri_text_fini(&file);
    gw_fini(&w);
    return open_model();
}

/* Load spec text for the toy model; the arch on success. */
static peri_status load(const char *spec, void (*extra)(peri_gguf_writer *w), peri_arch **a,
                        peri_error *err) {
    peri_spec_source source = {tmp};
    write_file("arch/toy.lua", spec, strlen(spec));
    peri_gguf *g = toy(extra);
    peri_status st = peri_lua_arch_load(&source, g, a, err);
    peri_gguf_close(g);
    return st;
}

#define FRAME(params, attn, layer)                                                                 \
    "return { name = 'toy', params = {" params "}, blocks = { a = { kind = 'gqa', " attn           \
    " }, m = { kind = 'gated' }, e = { kind = 'moe' } }, layer = {" layer "} }"
#define STEP "{ pre = 'n', block = 'a' }"

static void helpers_mean_what_they_say(void **state) {
    (void)state;
    peri_arch *a;
    peri_error err;
    const char *spec = "local p = pattern('pat', 2)\n" FRAME(
        "s = { 'missing', rsqrt 'd_k' }",
        "scale = 's', cap = every(2, 7, 5), qk_norm = first(1, 'head', 'none'), mask = p('window', "
        "'full'), "
        "rope = { base = pick('mode', { [3] = sqrt(ratio('d_model', 2)) }, 9) }",
        STEP ", { block = has('router', 'e', 'm'), post = every(4, 'last', '') }");
    assert_ok(load(spec, NULL, &a, &err), err);
    for (int il = 0; il < 4; il++) {
        const peri_block_gqa *o = &a->layer[il].step[0].u.gqa;
        assert_true(o->scale == 0.5);
        assert_true(o->cap == ((il + 1) % 2 == 0 ? 7 : 5));
        assert_true(o->qk_norm == (il < 1 ? PERI_QK_NORM_HEAD : PERI_QK_NORM_NONE));
        assert_true(o->mask == (il % 2 == 0 ? PERI_MASK_WINDOW : PERI_MASK_FULL));
        assert_true(o->rope_base == 9);
        assert_int_equal(a->layer[il].step[1].kind, il == 2 ? PERI_BLOCK_moe : PERI_BLOCK_gated);
        assert_string_equal(a->layer[il].step[1].post, il == 3 ? "last" : "");
    }
    peri_arch_free(a);
}

static void with_keys(peri_gguf_writer *w) {
    gw_u32(w, "toy.mode", 3);
    gw_i32s(w, "toy.pat", (const int32_t[]){0, 0, 1, 0}, 4);
    gw_f32(w, "toy.attention.scale", 0);
    gw_i32s(w, "toy.attention.head_count_kv", (const int32_t[]){1, 2, 1, 2}, 4);
}

static void keys_of_the_file_decide(void **state) {
    (void)state;
    peri_arch *a;
    peri_error err;
    const char *spec = "local p = pattern('pat', 2)\n" FRAME(
        "s = { 'attention.scale', 3 }",
        "scale = 's', mask = p('window', 'full'), rope = { base = pick('mode', { [3] = "
        "sqrt(ratio('d_model', 2)) }, 9) }",
        STEP);
    assert_ok(load(spec, with_keys, &a, &err), err);
    for (int il = 0; il < 4; il++) {
        const peri_block_gqa *o = &a->layer[il].step[0].u.gqa;
        assert_true(o->scale == 3); /* a stored scale of 0 means absent */
        assert_true(o->mask == (il == 2 ? PERI_MASK_WINDOW : PERI_MASK_FULL));
        assert_true(o->rope_base == 2);
        assert_int_equal(a->layer[il].n_kv, il % 2 ? 2 : 1);
    }
    peri_arch_free(a);
}

static void mistakes_in_a_spec_are_named(void **state) {
    (void)state;
    static const struct {
        const char *spec, *fragment;
    } bad[] = {
        {"return { name = 'toy', block = {} }", "unknown key \"block\"; did you mean \"blocks\"?"},
        {FRAME("", "scael = 1", STEP), "blocks.a: unknown key \"scael\"; did you mean \"scale\"?"},
        {FRAME("", "rope = { pair = 'neox' }", STEP),
         "unknown key \"pair\"; did you mean \"pairs\"?"},
        {FRAME("", "mask = 'windoe'", STEP),
         "blocks.a.mask: found \"windoe\", expected one of full|window"},
        {FRAME("", "scale = 'nosuch'", STEP), "\"nosuch\" is no parameter"},
        {FRAME("", "scale = rsqrt(0)", STEP), "rsqrt gives no finite number"},
        {FRAME("", "", "{ pre = 'n', block = 'b' }"), "block \"b\" is not in `blocks`"},
        {FRAME("", "", "{ pre = 'n' }"), "layer[1]: has no block"},
        {FRAME("", "", "{ prre = 'n', block = 'a' }"),
         "unknown key \"prre\"; did you mean \"pre\"?"},
        {FRAME("", "", ""), "found 0 steps"},
        {FRAME("k = 'nosuch.key'", "", STEP), "key toy.nosuch.key is missing (params.k of spec"},
        {FRAME("n_layer = 3", "", STEP), "cannot be overridden"},
        {"return { name = 'tyo' }", "name: found \"tyo\", expected \"toy\""},
        {"return 5", "found number, expected a table"},
        {"return {", "toy.lua:1:"},
        {"x = 1 return {}", "a spec sets no globals: \"x\""},
        {"return { name = io.read() }", "unknown name \"io\""},
        {"return { name = ('x'):rep(1e9) }", "toy.lua:1:"},
        {"while true do end", "instruction limit reached"},
        {"local t = {} for i = 1, 1e5 do t[i] = { {}, {}, {}, {} } end", "(cap 8 MiB)"},
        {"\x1bLua bytecode", "binary chunk"},
        {"return { name = 'toy', parent = 'missing' }", "architecture \"missing\" is unknown"},
        {"return { name = 'toy', parent = '../toy' }", "expected 1 to 64 of a-z"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        peri_arch *a;
        peri_error err = {0};
        if (load(bad[i].spec, NULL, &a, &err) == PERI_OK) fail_msg("accepted: %s", bad[i].spec);
        if (!strstr(err.text, bad[i].fragment))
            fail_msg("spec %zu: \"%s\" lacks \"%s\"", i, err.text, bad[i].fragment);
        assert_null(a);
    }
}

static void zero_heads(peri_gguf_writer *w) {
    gw_u32(w, "toy.attention.head_count_kv", 0);
}
static void odd_heads(peri_gguf_writer *w) {
    gw_u32(w, "toy.attention.head_count_kv", 3);
}
static void nan_eps(peri_gguf_writer *w) {
    gw_f32(w, "toy.attention.layer_norm_rms_epsilon", 0.0f / 0.0f);
}
static void short_array(peri_gguf_writer *w) {
    gw_i32s(w, "toy.feed_forward_length", (const int32_t[]){1, 2, 3}, 3);
}
static void wide_rotation(peri_gguf_writer *w) {
    gw_u32(w, "toy.rope.dimension_count", 6);
}
static void text_base(peri_gguf_writer *w) {
    gw_str(w, "toy.rope.freq_base", "10000");
}
static void odd_scaling(peri_gguf_writer *w) {
    gw_str(w, "toy.rope.scaling.type", "cubic");
}
static void no_used(peri_gguf_writer *w) {
    gw_u32(w, "toy.expert_count", 4);
}

static void numbers_of_the_file_are_checked(void **state) {
    (void)state;
    static const struct {
        void (*extra)(peri_gguf_writer *w);
        const char *fragment;
    } bad[] = {
        {zero_heads, "key toy.attention.head_count_kv at offset"},
        {odd_heads, "3 key/value heads do not divide 2 heads"},
        {nan_eps, "key toy.attention.layer_norm_rms_epsilon at offset"},
        {short_array, "array of 3 values, expected one per layer (4)"},
        {wide_rotation, "found 6, expected an even number up to 4"},
        {text_base, "key toy.rope.freq_base at offset"},
        {odd_scaling, "unknown scaling \"cubic\""},
        {no_used, "toy.expert_used_count"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        peri_arch *a;
        peri_error err = {0};
        if (load(FRAME("", "", STEP), bad[i].extra, &a, &err) == PERI_OK)
            fail_msg("accepted file %zu", i);
        if (!strstr(err.text, bad[i].fragment))
            fail_msg("file %zu: \"%s\" lacks \"%s\"", i, err.text, bad[i].fragment);
        if (!strstr(err.text, "model.gguf"))
            fail_msg("file %zu: \"%s\" does not name the file", i, err.text);
    }
}

static void merged_text_shows_the_parent_and_what_was_dropped(void **state) {
    (void)state;
    peri_spec_source source = {PERI_SOURCE_DIR "/scripts"};
    peri_error err;
    char *text;
    assert_ok(peri_lua_arch_text(&source, "qwen3moe", &text, &err), err);
    assert_non_null(strstr(text, "qk_norm = \"head\""));
    assert_non_null(strstr(text, "renorm = true"));
    assert_null(strstr(text, "mlp"));
    peri_free(text);
    assert_int_equal(peri_lua_arch_text(&source, "nosuch", &text, &err), PERI_E_NOT_FOUND);
    assert_null(text);
}

static void running_out_of_memory_is_an_error_at_every_call(void **state) {
    (void)state;
    peri_spec_source source = {PERI_SOURCE_DIR "/scripts"};
    peri_gguf *g = tiny("gemma3");
    peri_gguf_close(g);
    peri_fault *f = peri_fault_alloc_install();
    g = open_model();
    uint64_t held = f->live;
    for (uint64_t n = 1;; n += n < 40 ? 1 : 13) {
        peri_arch *a;
        peri_error err = {0};
        f->calls = 0;
        f->fail_at = n;
        peri_status st = peri_lua_arch_load(&source, g, &a, &err);
        bool was_reached = f->calls >= n;
        f->fail_at = 0;
        peri_arch_free(a);
        assert_int_equal(f->live, held);
        if (!was_reached) {
            assert_int_equal(st, PERI_OK);
            assert_true(n > 40);
            break;
        }
        if (st != PERI_OK && st != PERI_E_NOMEM)
            fail_msg("allocation %lu: %s", (unsigned long)n, err.text);
    }
    peri_gguf_close(g);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shipped_spec_flattens_to_its_recorded_text),
        cmocka_unit_test(helpers_mean_what_they_say),
        cmocka_unit_test(keys_of_the_file_decide),
        cmocka_unit_test(mistakes_in_a_spec_are_named),
        cmocka_unit_test(numbers_of_the_file_are_checked),
        cmocka_unit_test(merged_text_shows_the_parent_and_what_was_dropped),
        cmocka_unit_test(running_out_of_memory_is_an_error_at_every_call),
    };
    void *state = NULL;
    if (make_tmp(&state)) return 1;
    int rc = peri_run_tests(tests);
    remove_tmp(&state);
    return rc;
}
