/* SPDX-License-Identifier: MIT
 *
 * The prefix cache: blocks are found by what they follow and what they hold, given up oldest first,
 * and what is taken from it is the same to the bit as what is computed. */
#include "harness.h"

#include <string.h>

#include "fault.h"
#include "perigee/perigee.h"
#include "rig.h"
#include "run/session.h"

enum { V = 300, BLOCK = 64 };

/* ---- the table alone ------------------------------------------------------------------------- */

static void blocks_are_found_by_parent_and_tokens(void **state) {
    (void)state;
    static const int32_t ab[] = {1, 2}, cd[] = {3, 4};
    peri_prefix p;
    peri_error err;
    assert_ok(peri_prefix_init(&p, 4, 2, true, &err), err);
    int32_t a = peri_prefix_take(&p), b = peri_prefix_take(&p), c = peri_prefix_take(&p);
    assert_int_equal(peri_prefix_find(&p, 0, ab), -1);
    assert_int_equal(peri_prefix_publish(&p, a, 0, ab), a);
    assert_int_equal(peri_prefix_publish(&p, b, p.serial[a], cd), b);
    assert_int_equal(peri_prefix_find(&p, 0, ab), a);
    assert_int_equal(peri_prefix_find(&p, 0, cd), -1);
    assert_int_equal(peri_prefix_find(&p, p.serial[a], cd), b);
    assert_int_equal(peri_prefix_find(&p, p.serial[b], cd), -1);
    /* A block of the same text is given back for the one that is known. */
    assert_int_equal(peri_prefix_publish(&p, c, 0, ab), a);
    assert_int_equal(p.count[a], 2);
    assert_int_equal(p.count[c], 0);
    assert_int_equal(p.n_free, 2);
    peri_prefix_release(&p, a);
    /* Overwritten: what followed it can no longer be reached, even when the id is used again. */
    uint64_t old = p.serial[a];
    peri_prefix_unpublish(&p, a);
    assert_int_equal(peri_prefix_publish(&p, a, 0, ab), a);
    assert_true(p.serial[a] != old);
    assert_int_equal(peri_prefix_find(&p, p.serial[a], cd), -1);
    peri_prefix_fini(&p);
}

static void cached_blocks_are_given_up_oldest_first(void **state) {
    (void)state;
    peri_prefix p;
    peri_error err;
    int32_t id[3];
    assert_ok(peri_prefix_init(&p, 3, 1, true, &err), err);
    for (int32_t i = 0; i < 3; i++) {
        id[i] = peri_prefix_take(&p);
        assert_int_equal(peri_prefix_publish(&p, id[i], 0, &i), id[i]);
    }
    assert_int_equal(peri_prefix_take(&p), -1);
    assert_int_equal(peri_prefix_room(&p), 0);
    peri_prefix_release(&p, id[1]);
    peri_prefix_release(&p, id[0]);
    peri_prefix_release(&p, id[2]);
    assert_int_equal(p.n_cached, 3);
    assert_int_equal(peri_prefix_room(&p), 3);
    peri_prefix_hold(&p, id[0]); /* used again, from the middle of the list */
    assert_int_equal(peri_prefix_take(&p), id[1]);
    assert_int_equal(peri_prefix_find(&p, 0, &(int32_t){1}), -1);
    assert_int_equal(peri_prefix_find(&p, 0, &(int32_t){2}), id[2]);
    assert_int_equal(peri_prefix_take(&p), id[2]);
    assert_int_equal(peri_prefix_take(&p), -1);
    assert_int_equal(p.n_evicted, 2);
    peri_prefix_release(&p, id[0]);
    peri_prefix_drop(&p);
    assert_int_equal(p.n_cached, 0);
    assert_int_equal(p.n_free, 1);
    peri_prefix_fini(&p);
}

static void a_table_that_is_off_knows_nothing(void **state) {
    (void)state;
    peri_prefix p;
    peri_error err;
    assert_ok(peri_prefix_init(&p, 2, 1, false, &err), err);
    int32_t a = peri_prefix_take(&p), one = 1;
    assert_int_equal(peri_prefix_publish(&p, a, 0, &one), a);
    assert_int_equal(peri_prefix_find(&p, 0, &one), -1);
    peri_prefix_release(&p, a);
    assert_int_equal(p.n_free, 2);
    peri_prefix_fini(&p);
}

static void a_table_without_memory_is_a_clean_error(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    for (uint64_t n = 1; n < 20; n++) {
        peri_prefix p;
        peri_error err;
        f->calls = 0;
        f->fail_at = n;
        peri_status st = peri_prefix_init(&p, 8, 4, true, &err);
        assert_int_equal(st, f->calls >= n ? PERI_E_NOMEM : PERI_OK);
        peri_prefix_fini(&p);
        assert_int_equal(f->live, 0);
    }
    peri_fault_alloc_remove();
}

/* ---- inside an engine ------------------------------------------------------------------------ */

typedef struct rig {
    peri_runtime *rt;
    peri_model *m;
} rig;

static rig open_rig(uint32_t n_session, bool no_cache) {
    rig r = {rig_runtime(PERI_LIBRARY_DIR, PERI_SOURCE_DIR "/scripts", 2, NULL), NULL};
    peri_model_options o = {.size = sizeof o,
                            .n_ctx = 256,
                            .n_session = n_session,
                            .n_batch = 48,
                            .no_prefix_cache = no_cache};
    peri_error err;
    assert_ok(peri_model_open(r.rt, rig_tiny("model.gguf", "qwen3", 12, 3), &o, &r.m, &err), err);
    return r;
}

static void close_rig(rig *r) {
    peri_model_close(r->m);
    peri_runtime_free(r->rt);
}

static peri_session *open_session(peri_model *m) {
    peri_session_options o = {.size = sizeof o, .seed = 3, .temp = 1};
    peri_session *s;
    peri_error err;
    assert_ok(peri_session_new(m, &o, &s, &err), err);
    return s;
}

static void fill(int32_t *tok, size_t n, uint32_t salt) {
    for (size_t i = 0; i < n; i++)
        tok[i] = (int32_t)((i * 7919 + salt * 104729 + i * i) % V);
}

static void feed(peri_session *s, const int32_t *tok, size_t n) {
    peri_error err;
    assert_ok(peri_session_feed(s, tok, n, &err), err);
}

/* n tokens sampled and fed, and the logits behind the last. */
static void go_on(peri_session *s, size_t n, int32_t *tok, float *logits) {
    peri_error err;
    for (size_t i = 0; i < n; i++) {
        assert_ok(peri_session_sample(s, &tok[i], &err), err);
        feed(s, &tok[i], 1);
    }
    assert_ok(peri_session_predict(s, &err), err);
    memcpy(logits, s->logits, V * sizeof *logits);
}

static peri_run_stats stats(const peri_session *s) {
    peri_run_stats st;
    peri_session_stats_get(s, &st);
    return st;
}

static void warm_is_cold_to_the_bit(void **state) {
    (void)state;
    static const size_t length[] = {1, 63, 64, 65, 127, 128, 129, 200};
    static float cold[V], warm[V];
    int32_t tok[200], a[30], b[30];
    fill(tok, 200, 1);
    for (size_t i = 0; i < sizeof length / sizeof length[0]; i++) {
        size_t n = length[i];
        rig off = open_rig(2, true), on = open_rig(2, false);
        peri_session *s = open_session(off.m), *t = open_session(on.m), *u = open_session(on.m);
        feed(s, tok, n);
        go_on(s, 30, a, cold);
        feed(t, tok, n);
        feed(u, tok, n); /* beside t, or after it */
        assert_int_equal(stats(s).n_cached, 0);
        assert_int_equal(stats(t).n_cached, 0);
        assert_int_equal(stats(u).n_cached, n / BLOCK * BLOCK);
        assert_int_equal(stats(u).n_prompt, n);
        go_on(u, 30, b, warm);
        assert_memory_equal(a, b, sizeof a);
        assert_memory_equal(cold, warm, sizeof cold);
        go_on(t, 30, b, warm);
        assert_memory_equal(cold, warm, sizeof cold);
        peri_session_free(t);
        peri_session_free(u);
        t = open_session(on.m); /* no session holds the blocks now */
        feed(t, tok, n);
        assert_int_equal(stats(t).n_cached, n / BLOCK * BLOCK);
        go_on(t, 30, b, warm);
        assert_memory_equal(cold, warm, sizeof cold);
        peri_session_free(s);
        peri_session_free(t);
        close_rig(&off);
        close_rig(&on);
    }
}

static void a_second_turn_computes_its_new_tokens_only(void **state) {
    (void)state;
    static float logits[V];
    int32_t text[256], said[20];
    fill(text, 256, 2);
    rig r = open_rig(2, false);
    peri_session *s = open_session(r.m);
    feed(s, text, 100);
    go_on(s, 20, text + 100, logits);
    assert_int_equal(stats(s).n_computed, 120);
    feed(s, text + 120, 30);
    assert_int_equal(stats(s).n_computed, 150);
    assert_int_equal(stats(s).n_kv_copied_bytes, 0);
    peri_session_free(s);
    s = open_session(r.m); /* the same talk in another session: what was generated is known too */
    feed(s, text, 150);
    assert_int_equal(stats(s).n_cached, 128);
    assert_int_equal(stats(s).n_computed, 22);
    go_on(s, 20, said, logits);
    peri_session_free(s);
    s = open_session(r.m);
    feed(s, text, 128);
    assert_int_equal(stats(s).n_computed, 0);
    go_on(s, 1, said, logits); /* only now: the last token's logits, and the new token */
    assert_int_equal(stats(s).n_computed, 2);
    peri_session_free(s);
    close_rig(&r);
}

static void writing_over_a_block_leaves_others_alone(void **state) {
    (void)state;
    static float want[V], got[V];
    int32_t text[256], other[256], a[20], b[20];
    peri_error err;
    fill(text, 256, 3);
    fill(other, 256, 4);
    rig r = open_rig(4, false);
    peri_session *s = open_session(r.m), *t = open_session(r.m);
    feed(s, text, 130);
    feed(t, text, 130);
    assert_int_equal(stats(t).n_cached, 128);
    assert_ok(peri_session_rewind(s, 70, &err), err);
    feed(s, other, 60); /* t holds the block: it is copied first */
    assert_true(stats(s).n_kv_copied_bytes > 0);
    go_on(t, 20, a, got);
    peri_session_free(t);
    uint64_t copied = stats(s).n_kv_copied_bytes;
    assert_ok(peri_session_rewind(s, 70, &err), err);
    feed(s, other, 60); /* nobody else holds it: written in place */
    assert_int_equal(stats(s).n_kv_copied_bytes, copied);
    peri_session_free(s);
    rig off = open_rig(1, true);
    s = open_session(off.m);
    feed(s, text, 130);
    go_on(s, 20, b, want);
    assert_memory_equal(want, got, sizeof want);
    peri_session_free(s);
    t = open_session(r.m);
    feed(t, text, 130);
    go_on(t, 20, b, got);
    assert_memory_equal(want, got, sizeof want);
    peri_session_free(t);
    close_rig(&r);
    close_rig(&off);
}

static void cached_blocks_make_room_for_what_is_needed(void **state) {
    (void)state;
    static float want[V], got[V];
    int32_t text[256], a[20];
    peri_error err;
    rig r = open_rig(1, false); /* four blocks */
    for (uint32_t round = 0; round < 6; round++) {
        peri_session *s = open_session(r.m);
        fill(text, 256, round % 3);
        feed(s, text, 200);
        go_on(s, 20, a, round ? got : want);
        if (round == 3) assert_memory_equal(want, got, sizeof want);
        peri_session_free(s);
    }
    peri_session *s = open_session(r.m), *t = open_session(r.m);
    feed(s, text, 200);
    assert_true(stats(s).n_evicted > 0);
    assert_int_equal(stats(s).n_cached, 192); /* round 5 said the same */
    assert_int_equal(peri_session_feed(t, text + 1, 10, &err), PERI_E_NOMEM);
    assert_error(&err, PERI_E_NOMEM, "4 blocks of 64 tokens are all in use");
    peri_session_free(t);
    peri_session_free(s);
    close_rig(&r);
}

static void prompts_that_do_not_fit_leave_nothing_behind(void **state) {
    (void)state;
    int32_t text[256];
    peri_error err;
    fill(text, 256, 1);
    rig r = open_rig(1, false);
    peri_session *s = open_session(r.m), *t = open_session(r.m);
    feed(s, text, 190);
    assert_int_equal(peri_session_feed(t, text, 250, &err), PERI_E_NOMEM);
    assert_int_equal(peri_session_n_tok(t), 0);
    assert_int_equal(t->n_block, 0);
    assert_int_equal(stats(t).n_cached, 0);
    text[200] = V;
    assert_int_equal(peri_session_feed(t, text, 250, &err), PERI_E_RANGE);
    assert_int_equal(peri_session_n_tok(t), 0);
    peri_session_free(t);
    peri_session_free(s);
    close_rig(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_found_by_parent_and_tokens),
        cmocka_unit_test(cached_blocks_are_given_up_oldest_first),
        cmocka_unit_test(a_table_that_is_off_knows_nothing),
        cmocka_unit_test(a_table_without_memory_is_a_clean_error),
        cmocka_unit_test(warm_is_cold_to_the_bit),
        cmocka_unit_test(a_second_turn_computes_its_new_tokens_only),
        cmocka_unit_test(writing_over_a_block_leaves_others_alone),
        cmocka_unit_test(cached_blocks_make_room_for_what_is_needed),
        cmocka_unit_test(prompts_that_do_not_fit_leave_nothing_behind),
    };
    int rc = peri_run_tests(tests);
    rig_end();
    return rc;
}
