/* SPDX-License-Identifier: MIT
 *
 * Policies below the scripts: what they keep belongs to its history, saved and damaged bytes, two
 * sessions that move together whatever else happens, and want of memory.  What policies in Lua may
 * do is tests/lua/policy_spec.lua. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/io.h"
#include "base/status.h"
#include "fault.h"
#include "rig.h"
#include "run/sched.h"
#include "sched_rig.h"
#include "script/lua_policy.h"

/* ---- a host without Lua ------------------------------------------------------------------------
 * Its policy counts its calls in what it keeps, and takes candidate (count mod n).  The second one
 * keeps nothing but one byte. */
enum { SMALL = 50 };

typedef struct counting {
    int n_open;
    uint32_t last[2];       /* the count each policy was given last */
    bool fails, is_lenient; /* lenient: names may be anything */
    size_t n_more;          /* bytes kept besides the count, other ones each time */
} counting;

static peri_status count_open(void *user, const peri_policy_text *p, size_t n, void **out,
                              peri_error *err) {
    counting *c = user;
    (void)err;
    assert_true(c->is_lenient || n == 1 || n == 2);
    if (!c->is_lenient) assert_string_equal(p[0].name, "count");
    c->n_open++;
    *out = c;
    return PERI_OK;
}

static void count_close(void *user, void *set) {
    counting *c = user;
    assert_ptr_equal(set, c);
    c->n_open--;
}

static peri_status count_run(void *user, void *set, size_t i, peri_policy_view *v,
                             peri_error *err) {
    counting *c = user;
    uint32_t n = 0;
    (void)set;
    if (v->kept.data) assert_int_equal(v->kept.size, i ? 1 : sizeof n + c->n_more);
    if (v->kept.data && !i) memcpy(&n, v->kept.data, sizeof n);
    c->last[i] = n;
    if (c->fails) return peri_fail(err, PERI_E_POLICY_ERROR, "count:1: no");
    n++;
    peri_text_add(v->left, i ? "x" : (const char *)&n, i ? 1 : sizeof n);
    if (i) return PERI_OK;
    for (size_t k = 0; k < c->n_more; k++)
        peri_text_add(v->left, "y", 1);
    v->c[0] = v->c[n % v->n];
    v->n = 1;
    v->has_p = false;
    return PERI_OK;
}

static counting counts;
static const peri_policy_host counter = {&counts, count_open, count_close, count_run};
static const peri_policy_text texts[2] = {{"count", {"a", 1}, {"b", 1}},
                                          {"mute", {"", 0}, {"", 0}}};

static peri_sampling counted(size_t n) {
    peri_sampling p = {.seed = 3, .temp = 1, .top_k = 20, .policy = texts, .n_policy = n};
    peri_error err;
    assert_ok(peri_sampling_add_link(&p, "top_k", &err), err);
    for (size_t i = 0; i < n; i++)
        assert_ok(peri_sampling_add_policy(&p, i, &err), err);
    return p;
}

static const peri_sampler_vocab small = {.n_vocab = SMALL, .n_ctx = 64, .host = &counter};

static void fill_logits(float *logits) {
    for (int i = 0; i < SMALL; i++)
        logits[i] = (float)((i * 37) % 23) / 4;
}

static int32_t pick(peri_sampler *s, int32_t *tok, int32_t n) {
    float logits[SMALL];
    peri_error err;
    fill_logits(logits);
    assert_ok(peri_sampler_pick(s, logits, tok, n, &tok[n], &err), err);
    return tok[n];
}

static void what_is_kept_belongs_to_its_history(void **state) {
    (void)state;
    peri_sampling p = counted(2);
    peri_sampler *s, *clone;
    peri_error err;
    int32_t tok[64], again[64], other[64] = {7};
    assert_ok(peri_sampler_new(&p, &small, &s, &err), err);
    for (int32_t n = 0; n < 20; n++) {
        pick(s, tok, n);
        assert_int_equal(counts.last[0], n);
    }
    memcpy(again, tok, sizeof tok);
    assert_int_equal(pick(s, again, 19), tok[19]); /* asked twice */
    for (int32_t n = 11; n < 20; n++) {            /* rewound */
        assert_int_equal(pick(s, again, n), tok[n]);
        assert_int_equal(counts.last[0], n);
    }
    assert_ok(peri_sampler_clone(s, 9, 15, &clone, &err), err);
    memcpy(again, tok, sizeof tok);
    for (int32_t n = 15; n < 25; n++) {
        pick(clone, again, n);
        assert_int_equal(counts.last[0], n);
    }
    pick(s, other, 1); /* another beginning: nothing was kept for it */
    assert_int_equal(counts.last[0], 0);
    pick(s, tok, 5); /* and back: what was kept is gone from where the texts part */
    assert_int_equal(counts.last[0], 0);
    peri_sampler_free(s);
    peri_sampler_free(clone);
    assert_int_equal(counts.n_open, 0);
}

static void other_parameters_are_no_other_beginning(void **state) {
    (void)state;
    peri_sampling p = counted(1), warmer = counted(1), two = counted(2);
    peri_sampler *s, *fresh;
    peri_error err;
    int32_t tok[64];
    warmer.temp = 2;
    warmer.seed = 9;
    assert_ok(peri_sampler_new(&p, &small, &s, &err), err);
    for (int32_t n = 0; n < 10; n++)
        pick(s, tok, n);
    assert_ok(peri_sampler_new(&warmer, &small, &fresh, &err), err);
    assert_ok(peri_sampler_carry(fresh, s, &err), err);
    pick(fresh, tok, 10);
    assert_int_equal(counts.last[0], 10);
    pick(fresh, tok, 4);
    assert_int_equal(counts.last[0], 4);
    peri_sampler_free(fresh);
    assert_ok(peri_sampler_new(&two, &small, &fresh, &err), err); /* other policies */
    assert_ok(peri_sampler_carry(fresh, s, &err), err);
    pick(fresh, tok, 10);
    assert_int_equal(counts.last[0], 0);
    peri_sampler_free(fresh);
    peri_sampler_free(s);
}

static void a_failure_keeps_nothing(void **state) {
    (void)state;
    peri_sampling p = counted(1);
    peri_sampler *s;
    peri_error err;
    int32_t tok[64], id;
    float logits[SMALL];
    fill_logits(logits);
    assert_ok(peri_sampler_new(&p, &small, &s, &err), err);
    for (int32_t n = 0; n < 5; n++)
        pick(s, tok, n);
    counts.fails = true;
    assert_int_equal(peri_sampler_pick(s, logits, tok, 5, &id, &err), PERI_E_POLICY_ERROR);
    assert_error(&err, PERI_E_POLICY_ERROR, "count:1: no");
    assert_int_equal(id, -1);
    counts.fails = false;
    pick(s, tok, 5);
    assert_int_equal(counts.last[0], 5);
    peri_sampler_free(s);
}

static void what_all_positions_keep_has_an_end(void **state) {
    (void)state;
    enum { LONG = 4200 };
    peri_sampling p = counted(1);
    peri_sampler_vocab v = small;
    peri_sampler *s;
    peri_error err;
    float logits[SMALL];
    static int32_t tok[LONG + 1];
    fill_logits(logits);
    v.n_ctx = LONG;
    counts.n_more = PERI_POLICY_STATE - sizeof(uint32_t);
    assert_ok(peri_sampler_new(&p, &v, &s, &err), err);
    peri_status st = PERI_OK;
    int32_t n = 0;
    for (; n < LONG && !st; n++)
        st = peri_sampler_pick(s, logits, tok, n, &tok[n], &err);
    assert_error(&err, PERI_E_POLICY_ERROR, "takes more than 16 MiB; keep less in its state");
    assert_in_range(n, 4000, 4100);
    assert_ok(peri_sampler_pick(s, logits, tok, 100, &tok[100], &err), err); /* going back helps */
    assert_int_equal(counts.last[0], 100);
    peri_sampler_free(s);
    counts.n_more = 0;
}

static void chains_with_policies_are_checked(void **state) {
    (void)state;
    peri_sampling p = counted(2);
    peri_sampler *s;
    peri_error err;
    peri_sampler_vocab without = small;
    without.host = NULL;
    assert_int_equal(peri_sampler_new(&p, &without, &s, &err), PERI_E_UNSUPPORTED);
    assert_error(&err, PERI_E_UNSUPPORTED, "nothing here runs sampling policies");
    p.order[1] = PERI_LINK_POLICY + 1;
    p.order[2] = PERI_LINK_POLICY;
    assert_int_equal(peri_sampling_check(&p, &err), PERI_E_INVALID);
    p.n_order = 2;
    p.order[1] = PERI_LINK_POLICY;
    assert_int_equal(peri_sampling_check(&p, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "2 policies, but 1 in the chain");
    p = counted(1);
    p.mirostat = 2;
    assert_int_equal(peri_sampling_check(&p, &err), PERI_E_INVALID);
    assert_error(&err, PERI_E_INVALID, "mirostat takes the place of the chain");
    peri_text order = {0};
    p = counted(2);
    peri_sampling_order(&p, &order);
    assert_string_equal(order.data, "top_k;policy count;policy mute");
    peri_text_fini(&order);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static peri_status restore(const void *data, size_t size, peri_sampler **out, peri_error *err) {
    peri_reader r = {"saved", data, size, 0};
    peri_status st = peri_sampler_restore(&r, &small, 20, out, err);
    return st;
}

static void a_saved_sampler_goes_on(void **state) {
    (void)state;
    peri_sampling p = counted(2);
    peri_sampler *s, *back;
    peri_error err;
    peri_text bytes = {0};
    int32_t tok[64], again[64];
    assert_ok(peri_sampler_new(&p, &small, &s, &err), err);
    for (int32_t n = 0; n < 30; n++)
        pick(s, tok, n);
    memcpy(again, tok, sizeof tok);
    assert_ok(peri_sampler_save(s, 20, &bytes, &err), err);
    assert_ok(restore(bytes.data, bytes.size, &back, &err), err);
    for (int32_t n = 20; n < 30; n++) {
        assert_int_equal(pick(back, again, n), tok[n]);
        assert_int_equal(counts.last[0], n);
    }
    peri_sampler_free(back);
    /* Cut anywhere it is refused; damaged anywhere it is refused or works. */
    for (size_t n = 0; n < bytes.size; n++) {
        char *part = malloc(n + 1);
        memcpy(part, bytes.data, n);
        assert_int_not_equal(restore(part, n, &back, &err), PERI_OK);
        assert_null(back);
        free(part);
    }
    counts.is_lenient = true;
    for (size_t n = 0; n < 8 * bytes.size; n++) {
        bytes.data[n / 8] = (char)(bytes.data[n / 8] ^ 1 << n % 8);
        restore(bytes.data, bytes.size, &back, &err);
        peri_sampler_free(back);
        bytes.data[n / 8] = (char)(bytes.data[n / 8] ^ 1 << n % 8);
    }
    counts.is_lenient = false;
    peri_sampler_free(s);
    peri_text_fini(&bytes);
    assert_int_equal(counts.n_open, 0);
}

/* ---- two sessions that move together --------------------------------------------------------- */

typedef struct rig {
    sr_rig r;
    peri_sched *s;
    peri_policy_host *host;
} rig;

static rig *open_rig(uint32_t n_ctx, uint32_t n_session) {
    static rig g;
    peri_error err;
    sr_open(&g.r, n_ctx, n_session, 48, false);
    assert_ok(peri_lua_policies_new(&g.host, &err), err);
    g.r.m->engine->host = g.host;
    assert_ok(peri_sched_new(g.r.m->engine, g.r.m->tokenizer, sr_event, &g.r, &g.s, &err), err);
    return &g;
}

static void close_rig(rig *g) {
    peri_sched_free(g->s);
    for (size_t i = 1; i < SR_MAX_REQUEST && g->r.record[i]; i++)
        assert_int_equal(g->r.record[i]->n_final, 1);
    sr_close(&g->r);
    peri_lua_policies_free(g->host);
}

static sr_record *put(rig *g, peri_request r) {
    peri_job *j;
    peri_error err;
    r.tag = sr_tag(&g->r);
    assert_ok(peri_job_new(&r, r.tag, &j, &err), err);
    peri_sched_put(g->s, j);
    return g->r.record[r.tag];
}

static void run(rig *g) {
    for (int i = 0; peri_sched_step(g->s); i++)
        assert_true(i < 100000);
}

static uint64_t open_fed(rig *g, const peri_sampling *p, uint32_t salt, size_t n) {
    int32_t prompt[128];
    const sr_record *x = put(g, (peri_request){.kind = PERI_REQUEST_OPEN, .sampling = p});
    if (x->final.status) fail_msg("%s", x->error);
    sr_fill(prompt, n, salt);
    put(g, (peri_request){
               .kind = PERI_REQUEST_FEED, .session = x->final.session, .tok = prompt, .n_tok = n});
    return x->final.session;
}

static sr_record *generate(rig *g, uint64_t session, uint64_t beside, uint64_t max) {
    return put(g, (peri_request){.kind = PERI_REQUEST_GENERATE,
                                 .session = session,
                                 .generate = {.max = max, .ignore_eog = true, .beside = beside}});
}

static sr_record *tokens_of(rig *g, uint64_t session) {
    return put(g, (peri_request){.kind = PERI_REQUEST_TOKENS, .session = session});
}

static const peri_sampling warm = {.seed = 5, .temp = 1};

static void a_pair_says_what_the_first_says_alone(void **state) {
    (void)state;
    int32_t prompt[40], want[60];
    sr_fill(prompt, 40, 1);
    for (uint32_t n_session = 2; n_session <= 6; n_session += 4) { /* a full pool, and room */
        rig *g = open_rig(256, n_session);
        sr_record *others[4];
        sr_alone(prompt, 40, &warm, want, 60);
        uint64_t a = open_fed(g, &warm, 1, 40), b = open_fed(g, &warm, 2, 100), c[4];
        for (uint32_t i = 0; i < 4; i++) {
            c[i] = open_fed(g, &warm, 10 + i, 70);
            others[i] = generate(g, c[i], 0, 40 + 3 * i);
        }
        sr_record *pair = generate(g, a, b, 60);
        sr_record *of_a = tokens_of(g, a), *of_b = tokens_of(g, b); /* wait for their turn */
        run(g);
        if (pair->final.status) fail_msg("%s", pair->error);
        assert_int_equal(pair->final.why, PERI_WHY_LENGTH);
        assert_int_equal(pair->n_tok, 60);
        assert_memory_equal(pair->tok, want, sizeof want);
        assert_int_equal(of_a->final.n_tok, 100);
        assert_int_equal(of_b->final.n_tok, 160);
        assert_memory_equal(of_a->tok + 40, want, sizeof want);
        assert_memory_equal(of_b->tok + 100, want, sizeof want);
        for (int i = 0; i < 4; i++)
            assert_int_equal(others[i]->final.status, PERI_OK);
        close_rig(g);
    }
}

static void pairs_over_the_same_sessions_take_turns(void **state) {
    (void)state;
    rig *g = open_rig(128, 4);
    uint64_t a = open_fed(g, &warm, 1, 20), b = open_fed(g, &warm, 2, 20);
    sr_record *said[6];
    for (int i = 0; i < 6; i++)
        said[i] = i % 2 ? generate(g, a, b, 5) : generate(g, b, a, 5);
    run(g);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(said[i]->final.status, PERI_OK);
        assert_int_equal(said[i]->n_tok, 5);
        assert_int_equal(said[i]->final.n_tok, 25 + 5 * i);
    }
    close_rig(g);
}

static void either_one_may_go_at_any_time(void **state) {
    (void)state;
    for (int what = 0; what < 4; what++)
        for (int steps = 0; steps < 6; steps++) {
            rig *g = open_rig(128, 4);
            uint64_t a = open_fed(g, &warm, 1, 20), b = open_fed(g, &warm, 2, 20);
            sr_record *first = generate(g, a, 0, 3); /* so that the pair waits in the queue */
            sr_record *pair = generate(g, a, b, 30), *rest = tokens_of(g, b);
            uint64_t pair_id = 0;
            while (g->r.record[++pair_id] != pair)
                ;
            for (int i = 0; i < steps * 2; i++)
                peri_sched_step(g->s);
            peri_request r = {.kind = PERI_REQUEST_CLOSE, .session = what == 0 ? a : b};
            if (what == 2) r = (peri_request){.kind = PERI_REQUEST_CANCEL, .target = pair_id};
            if (what < 3) put(g, r);
            run(g);
            assert_int_equal(first->n_final, 1);
            assert_int_equal(rest->n_final, 1);
            if (what == 1) assert_int_equal(pair->final.status, PERI_E_NOT_FOUND);
            if (what == 1) assert_non_null(strstr(pair->error, "the session beside was closed"));
            if (what == 0 || what == 2) assert_int_equal(pair->final.why, PERI_WHY_CANCELLED);
            if (what == 3) assert_int_equal(pair->final.why, PERI_WHY_LENGTH);
            if (what != 0 && what != 3) { /* the other one goes on as if nothing had been */
                const sr_record *more = generate(g, a, 0, 2);
                run(g);
                assert_int_equal(more->final.status, PERI_OK);
            }
            close_rig(g);
        }
}

static void what_cannot_be_a_pair_is_refused(void **state) {
    (void)state;
    rig *g = open_rig(128, 2);
    peri_error err;
    peri_job *j;
    uint64_t a = open_fed(g, &warm, 1, 20);
    const sr_record *empty = put(g, (peri_request){.kind = PERI_REQUEST_OPEN, .sampling = &warm});
    const sr_record *none = generate(g, a, 999, 3);
    const sr_record *early = generate(g, a, empty->final.session, 3);
    run(g);
    assert_int_equal(none->final.status, PERI_E_NOT_FOUND);
    assert_non_null(strstr(none->error, "no session 999 to be beside"));
    assert_int_equal(early->final.status, PERI_E_INVALID);
    assert_non_null(strstr(early->error, "nothing was fed to the session beside"));
    const peri_request own = {
        .kind = PERI_REQUEST_GENERATE, .session = a, .generate = {.beside = a}};
    assert_int_equal(peri_job_new(&own, 1, &j, &err), PERI_E_INVALID);
    close_rig(g);
}

static void a_pool_too_small_for_two_says_so(void **state) {
    (void)state;
    rig *g = open_rig(128, 1); /* two blocks of 64 tokens; two sessions want four */
    uint64_t a = open_fed(g, &warm, 1, 70), b = open_fed(g, &warm, 2, 70);
    sr_record *pair = generate(g, a, b, 5);
    run(g);
    assert_int_equal(pair->final.status, PERI_E_NOMEM);
    sr_record *alone = generate(g, a, 0, 5);
    run(g);
    assert_int_equal(alone->final.status, PERI_OK);
    close_rig(g);
}

static void the_first_token_can_be_told_what_not_to_be(void **state) {
    (void)state;
    static const peri_sampling cold;
    rig *g = open_rig(128, 2);
    uint64_t a = open_fed(g, &cold, 1, 20);
    const sr_record *likeliest = generate(g, a, 0, 2);
    run(g);
    int32_t ban = likeliest->tok[0], outside = SR_VOCAB;
    put(g, (peri_request){.kind = PERI_REQUEST_REWIND, .session = a, .position = 20});
    peri_request r = {.kind = PERI_REQUEST_GENERATE,
                      .session = a,
                      .generate = {.max = 2, .ignore_eog = true, .without = &ban, .n_without = 1}};
    const sr_record *other = put(g, r);
    run(g);
    assert_int_equal(other->final.status, PERI_OK);
    assert_int_not_equal(other->tok[0], ban);
    put(g, (peri_request){.kind = PERI_REQUEST_REWIND, .session = a, .position = 20});
    const sr_record *again = generate(g, a, 0, 2);
    r.generate.without = &outside;
    const sr_record *wrong = put(g, r);
    run(g);
    assert_int_equal(again->tok[0], ban);
    assert_int_equal(wrong->final.status, PERI_E_RANGE);
    close_rig(g);
}

/* ---- policies in Lua --------------------------------------------------------------------------
 */

static const char stateful[] =
    "return { state = { n = 0, words = {} }, choose = function(c, s)\n"
    "  s.n = s.n + 1\n"
    "  s.words[s.n % 5 + 1] = c:text(1) .. s.n\n"
    "  if c:other(1) and c:other(1) > c:logit(1) and #c > 1 then c:ban(1) end\n"
    "end }\n";

static peri_sampling with_text(const char *text, peri_policy_text *room) {
    peri_sampling p = {.seed = 3, .temp = 1, .top_k = 20, .policy = room, .n_policy = 1};
    peri_error err;
    *room = (peri_policy_text){"t.lua", {text, strlen(text)}, {NULL, 0}};
    assert_ok(peri_sampling_add_link(&p, "top_k", &err), err);
    assert_ok(peri_sampling_add_policy(&p, 0, &err), err);
    assert_ok(peri_sampling_add_link(&p, "temperature", &err), err);
    return p;
}

/* What a file says a policy kept may be anything. */
static void a_forged_state_is_an_error_of_the_policy(void **state) {
    (void)state;
    static const char text[] =
        "return { state = { n = 1, t = { 'a', { 2.5, true } }, s = 'x' }, choose = function(c, s)\n"
        "  for k, v in pairs(s) do assert(k ~= nil and v ~= nil) end\n"
        "end }";
    const peri_policy_text p = {"t.lua", {text, sizeof text - 1}, {NULL, 0}};
    peri_candidate c[3] = {{1, 0, 1}, {0.5f, 0, 2}, {0, 0, 0}}, spare[3];
    peri_policy_host *host;
    void *set;
    peri_error err;
    peri_text left = {0}, forged = {0};
    uint32_t random = 1, n_good = 0, n_bad = 0;
    assert_ok(peri_lua_policies_new(&host, &err), err);
    assert_ok(host->open(host->user, &p, 1, &set, &err), err);
    peri_policy_view v = {.c = c, .n = 3, .n_vocab = 3, .spare = spare, .left = &left};
    assert_ok(host->run(host->user, set, 0, &v, &err), err);
    assert_true(left.size > 30);
    peri_text_add(&forged, left.data, left.size);
    for (int i = 0; i < 1500; i++) {
        random = random * 1664525u + 1013904223u;
        size_t at = (random >> 8) % forged.size, cut = (random >> 20) % 8;
        char was = forged.data[at];
        forged.data[at] = (char)(random >> 16);
        v.kept = (peri_str){forged.data, cut ? forged.size : at};
        v.n = 3;
        left.size = 0;
        peri_status st = host->run(host->user, set, 0, &v, &err);
        if (st && st != PERI_E_POLICY_ERROR) fail_msg("%d: %s", st, err.text);
        n_good += !st;
        n_bad += st != PERI_OK;
        forged.data[at] = was;
    }
    assert_true(n_good > 100 && n_bad > 100);
    host->close(host->user, set);
    peri_lua_policies_free(host);
    peri_text_fini(&left);
    peri_text_fini(&forged);
}

static void one_that_fails_ends_alone(void **state) {
    (void)state;
    static const char *const hostile[] = {
        "return function(c)\n  if c:position() == 25 then while true do end end end",
        "return function(c)\n  if c:position() == 25 then local t = {} for i = 1, 1e9 do t[i] = {} "
        "end "
        "end end",
        "return function(c)\n  if c:position() == 25 then c:id(0) end end"};
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        rig *g = open_rig(128, 4);
        peri_policy_text room, other;
        peri_sampling bad = with_text(hostile[i], &room), good = with_text(stateful, &other);
        uint64_t a = open_fed(g, &good, 1, 20), b = open_fed(g, &bad, 1, 20);
        uint64_t c = open_fed(g, &bad, 2, 20);
        sr_record *fine = generate(g, a, 0, 30), *ends = generate(g, b, 0, 30);
        sr_record *before = generate(g, c, 0, 5);
        run(g);
        assert_int_equal(fine->n_tok, 30);
        assert_int_equal(fine->final.status, PERI_OK);
        assert_int_equal(ends->final.status, PERI_E_POLICY_ERROR);
        assert_non_null(strstr(ends->error, "sampling policy: t.lua:2: "));
        assert_int_equal(ends->n_tok, 5);
        assert_int_equal(before->final.status, PERI_OK);
        const sr_record *still = generate(g, a, 0, 5); /* the state of the set still works */
        run(g);
        assert_int_equal(still->final.status, PERI_OK);
        close_rig(g);
    }
}

/* A request, unless even copying it fails. */
static uint64_t try(rig *g, peri_request r) {
    peri_job *j;
    r.tag = sr_tag(&g->r);
    if (peri_job_new(&r, r.tag, &j, NULL)) {
        g->r.record[r.tag]->n_final = 1;
        return 0;
    }
    peri_sched_put(g->s, j);
    return g->r.record[r.tag]->final.session;
}

/* Every method that the stub for editors describes is there. */
static void the_stub_tells_the_truth(void **state) {
    (void)state;
    char *text = NULL, code[2000] = "return function(c)";
    size_t size, n = 0;
    peri_error err;
    peri_policy_text room;
    assert_ok(
        peri_file_read(PERI_SOURCE_DIR "/scripts/meta/policy.lua", 1 << 20, &text, &size, &err),
        err);
    static const char head[] = "\nfunction candidates:";
    for (const char *at = strstr(text, head); at; at = strstr(at + 1, head), n++) {
        const char *name = at + sizeof head - 1;
        size_t used = strlen(code);
        snprintf(code + used, sizeof code - used, " assert(c.%.*s, '%.*s')",
                 (int)strcspn(name, "("), name, (int)strcspn(name, "("), name);
    }
    assert_true(n > 10);
    peri_free(text);
    strncat(code, " end", sizeof code - strlen(code) - 1);
    rig *g = open_rig(64, 2);
    peri_sampling p = with_text(code, &room);
    const sr_record *x = generate(g, open_fed(g, &p, 1, 5), 0, 1);
    run(g);
    if (x->final.status) fail_msg("%s", x->error);
    close_rig(g);
}

/* Everything with policies. */
static void scenario(rig *g) {
    peri_policy_text room;
    peri_sampling p = with_text(stateful, &room);
    int32_t prompt[8];
    uint64_t id[2];
    sr_fill(prompt, 8, 3);
    for (int i = 0; i < 2; i++)
        id[i] = try(g, (peri_request){.kind = PERI_REQUEST_OPEN, .sampling = &p});
    for (int i = 0; i < 2; i++)
        try(g,
            (peri_request){.kind = PERI_REQUEST_FEED, .session = id[i], .tok = prompt, .n_tok = 8});
    const peri_request r[] = {
        {.kind = PERI_REQUEST_GENERATE,
         .session = id[0],
         .generate = {.max = 3, .ignore_eog = true, .beside = id[1]}},
        {.kind = PERI_REQUEST_FORK, .session = id[0]},
        {.kind = PERI_REQUEST_REWIND, .session = id[0], .position = 9},
        {.kind = PERI_REQUEST_GENERATE,
         .session = id[0],
         .generate = {.max = 2, .ignore_eog = true, .without = prompt, .n_without = 2}},
        {.kind = PERI_REQUEST_SAMPLING, .session = id[1], .sampling = &p}};
    for (size_t i = 0; i < sizeof r / sizeof r[0]; i++)
        try(g, r[i]);
    run(g);
}

/* One scheduler's life with the n-th allocation failing; whether there was an n-th. */
static bool fail_one(rig *g, peri_fault *f, uint64_t n, bool is_persistent, size_t *n_failed) {
    peri_error err;
    peri_sched_free(g->s);
    for (size_t i = 1; i < SR_MAX_REQUEST && g->r.record[i]; i++) {
        free(g->r.record[i]);
        g->r.record[i] = NULL;
    }
    f->calls = 0;
    f->fail_at = n;
    f->persistent = is_persistent;
    f->n_more = 1; /* Lua tries each allocation twice */
    peri_status st =
        peri_sched_new(g->r.m->engine, g->r.m->tokenizer, sr_event, &g->r, &g->s, &err);
    if (!st) scenario(g);
    bool was_reached = f->calls >= n;
    *f = (peri_fault){.live = f->live, .live_bytes = f->live_bytes, .peak_bytes = f->peak_bytes};
    *n_failed = 0;
    for (size_t i = 1; i < SR_MAX_REQUEST && g->r.record[i]; i++) {
        *n_failed += g->r.record[i]->final.status != PERI_OK;
        assert_int_equal(g->r.record[i]->n_final, 1);
    }
    return was_reached;
}

static void failing_allocations_end_requests_cleanly(void **state) {
    (void)state;
    peri_fault *f = peri_fault_alloc_install();
    rig *g = open_rig(64, 3);
    size_t n_failed;
    uint64_t n = 1;
    assert_false(fail_one(g, f, UINT64_MAX, false, &n_failed));
    assert_int_equal(n_failed, 0);
    peri_sched_free(g->s);
    g->s = NULL;
    uint64_t live = f->live;
    while (fail_one(g, f, n, n % 2, &n_failed)) {
        peri_sched_free(g->s);
        g->s = NULL;
        if (f->live != live)
            fail_msg("allocation %llu: %llu blocks held, expected %llu", (unsigned long long)n,
                     (unsigned long long)f->live, (unsigned long long)live);
        n += n < 200 ? 1 : 3; /* opening a Lua state makes hundreds that are all alike */
    }
    assert_int_equal(n_failed, 0);
    assert_true(n > 500);
    print_message("%llu allocations, failed in turn\n", (unsigned long long)n);
    close_rig(g);
    assert_int_equal(f->live, 0);
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_kept_belongs_to_its_history),
        cmocka_unit_test(other_parameters_are_no_other_beginning),
        cmocka_unit_test(a_failure_keeps_nothing),
        cmocka_unit_test(what_all_positions_keep_has_an_end),
        cmocka_unit_test(chains_with_policies_are_checked),
        cmocka_unit_test(a_saved_sampler_goes_on),
        cmocka_unit_test(a_pair_says_what_the_first_says_alone),
        cmocka_unit_test(pairs_over_the_same_sessions_take_turns),
        cmocka_unit_test(either_one_may_go_at_any_time),
        cmocka_unit_test(what_cannot_be_a_pair_is_refused),
        cmocka_unit_test(a_pool_too_small_for_two_says_so),
        cmocka_unit_test(the_first_token_can_be_told_what_not_to_be),
        cmocka_unit_test(a_forged_state_is_an_error_of_the_policy),
        cmocka_unit_test(one_that_fails_ends_alone),
        cmocka_unit_test(the_stub_tells_the_truth),
        cmocka_unit_test(failing_allocations_end_requests_cleanly),
    };
    int failed = peri_run_tests(tests);
    rig_end();
    return failed;
}
