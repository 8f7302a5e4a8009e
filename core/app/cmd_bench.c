/* SPDX-License-Identifier: MIT
 *
 * cmd_bench.c - perigee bench: tokens per second, measured so that the figures can be believed.
 *
 * Each repetition has fresh random tokens, so nothing it computes was computed before (the report
 * counts tokens that a cache gave, and they are 0).  Every generated token is sampled from real
 * logits and fed back.  One warm-up repetition is not counted.  The clock covers whole calls of the
 * public interface; loading is timed apart.
 *
 *   prompt      b sequences of p tokens, after d tokens already held, in one peri_model_step
 *   generation  n times: sample each of the b sequences, then one peri_model_step with their b
 * tokens first token the prompt of one repetition and the sampling of one token per sequence */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "ceiling.h"
#include "cmd.h"
#include "host.h"
#include "out.h"
#include "target.h"

typedef struct bench_opts {
    const char *model;
    int64_t p, n, b, d, r;
    uint64_t seed;
    int kv;
    bool is_json, of_sampler;
    int64_t vocab;
    const char *policy;
} bench_opts;

#define OFF(member) offsetof(bench_opts, member)
// clang-format off
static const peri_opt table[] = {
    {"model", 'm', PERI_OPT_TEXT, "MODEL", OFF(model), 0, 0, "A GGUF file, or the name of a model (see perigee list)."},
    {"prompt", 'p', PERI_OPT_INT, "N", OFF(p), 0, 1 << 24, "Tokens of the prompt; 0: no prompt test. Default 512."},
    {"number", 'n', PERI_OPT_INT, "N", OFF(n), 0, 1 << 24,
     "Tokens to generate; 0: no generation test. Default 128."},
    {"batch", 'b', PERI_OPT_INT, "N", OFF(b), 1, 256, "Sequences decoded together. Default 1."},
    {"depth", 'd', PERI_OPT_INT, "N", OFF(d), 0, 1 << 24,
     "Tokens of context that each sequence already holds. Default 0."},
    {"repetitions", 'r', PERI_OPT_INT, "N", OFF(r), 1, 1000, "Counted repetitions. Default 3."},
    {"kv", 0, PERI_OPT_CHOICE, "f16|f32|q8_0|q4_0", OFF(kv), 0, 0,
     "Type of the stored keys and values. Default f16."},
    {"seed", 0, PERI_OPT_SEED, "N", OFF(seed), 0, 0, "Seed of the random tokens. Default: a fresh one, reported."},
    {"sampler", 0, PERI_OPT_FLAG, NULL, OFF(of_sampler), 0, 0,
     "Measure what choosing a token costs, in microseconds, on made-up logits; no model is needed."},
    {"vocab", 0, PERI_OPT_INT, "N", OFF(vocab), 16, 1 << 22,
     "With --sampler: tokens of the vocabulary, where no model is given. Default 151936."},
    {"policy", 0, PERI_OPT_TEXT, "NAME", OFF(policy), 0, 0,
     "With --sampler: the sampling policy, one of ours or a .lua file. Default entropy."},
    {"json", 0, PERI_OPT_FLAG, NULL, OFF(is_json), 0, 0, "Print one JSON document."},
};
// clang-format on
enum { MAX_SEQ = 256, MAX_REP = 1000, WARM_UP_TOK = 8, DEFAULT_P = 512 };
enum { MAX_PICKS = 100000, SLICE_MS = 60000 }; /* of --sampler: a round is one slice */

static void set_defaults(void *values) {
    bench_opts *o = values;
    o->p = DEFAULT_P;
    o->n = 128;
    o->b = 1;
    o->r = 3;
    if (getrandom(&o->seed, sizeof o->seed, 0) != (ssize_t)sizeof o->seed)
        o->seed = (uint64_t)(peri_now() * 1e9);
    o->seed &= 0xffffffff; /* short enough to type again */
}

typedef struct bench {
    const bench_opts *o;
    peri_model *model;
    peri_session *session[MAX_SEQ];
    int32_t *tok; /* [b][max(p, d, 1)] */
    size_t n_row; /* tokens of a row of tok */
    uint64_t random;
    double pp_tps[MAX_REP], tg_tps[MAX_REP], first_ms[MAX_REP];
} bench;

/* SplitMix64.  Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators".
 */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Give every sequence n fresh random tokens in one step. */
static bool feed_random(bench *w, size_t n) {
    peri_feed feeds[MAX_SEQ];
    peri_error e = {0, ""};
    uint64_t n_vocab = (uint64_t)peri_model_n_vocab(w->model);
    for (size_t s = 0; s < (size_t)w->o->b; s++) {
        int32_t *row = w->tok + s * w->n_row;
        for (size_t i = 0; i < n; i++)
            row[i] = (int32_t)(next_random(&w->random) % n_vocab);
        feeds[s] = (peri_feed){.session = w->session[s], .tok = row, .n_tok = n};
    }
    if (n == 0 || peri_model_step(w->model, feeds, (size_t)w->o->b, 0, &e) == PERI_OK) return true;
    peri_out_error(&e);
    return false;
}

/* Sample one token of every sequence into tok[s][0]. */
static bool sample_all(bench *w) {
    peri_error e = {0, ""};
    for (size_t s = 0; s < (size_t)w->o->b; s++)
        if (peri_session_sample(w->session[s], w->tok + s * w->n_row, &e) != PERI_OK) {
            peri_out_error(&e);
            return false;
        }
    return true;
}

static bool feed_sampled(bench *w) {
    peri_feed feeds[MAX_SEQ];
    peri_error e = {0, ""};
    for (size_t s = 0; s < (size_t)w->o->b; s++)
        feeds[s] = (peri_feed){.session = w->session[s], .tok = w->tok + s * w->n_row, .n_tok = 1};
    if (peri_model_step(w->model, feeds, (size_t)w->o->b, 0, &e) == PERI_OK) return true;
    peri_out_error(&e);
    return false;
}

/* Back to d tokens of fresh context. */
static bool restart(bench *w) {
    peri_error e = {0, ""};
    for (size_t s = 0; s < (size_t)w->o->b; s++)
        if (peri_session_rewind(w->session[s], 0, &e) != PERI_OK) {
            peri_out_error(&e);
            return false;
        }
    return feed_random(w, (size_t)w->o->d);
}

/* One repetition into slot i, generating n tokens. */
static bool repeat(bench *w, size_t i, int64_t n) {
    const bench_opts *o = w->o;
    double start;
    if (o->p > 0) {
        if (!restart(w)) return false;
        start = peri_now();
        if (!feed_random(w, (size_t)o->p)) return false;
        w->pp_tps[i] = (double)(o->p * o->b) / (peri_now() - start);
        if (!sample_all(w)) return false;
        w->first_ms[i] = (peri_now() - start) * 1e3;
    }
    if (n > 0) {
        if (!restart(w) || !feed_random(w, 1)) return false; /* something to predict from */
        start = peri_now();
        for (int64_t k = 0; k < n; k++) {
            if (peri_interrupt_seen()) return false;
            if (!sample_all(w) || !feed_sampled(w)) return false;
        }
        w->tg_tps[i] = (double)(n * o->b) / (peri_now() - start);
    }
    return !peri_interrupt_seen();
}

static bool measure(bench *w) {
    peri_error e = {0, ""};
    const bench_opts *o = w->o;
    size_t row = (size_t)(o->p > o->d ? o->p : o->d);
    w->n_row = row ? row : 1;
    w->random = o->seed;
    w->tok = calloc(w->n_row * (size_t)o->b, sizeof *w->tok);
    if (w->tok == NULL) return peri_out_fail("out of memory for %zu tokens", w->n_row), false;
    for (size_t s = 0; s < (size_t)o->b; s++) {
        peri_session_options so = {.size = sizeof so,
                                   .seed = o->seed + s,
                                   .temp = 0.8f,
                                   .top_k = 40,
                                   .top_p = 0.95f,
                                   .min_p = 0.05f};
        if (peri_session_new(w->model, &so, &w->session[s], &e) != PERI_OK) {
            peri_out_error(&e);
            return false;
        }
    }
    if (!repeat(w, 0, o->n < WARM_UP_TOK ? o->n : WARM_UP_TOK)) return false;
    for (size_t i = 0; i < (size_t)o->r; i++)
        if (!repeat(w, i, o->n)) return false;
    return true;
}

/* ---- the report ---------------------------------------------------------------------------------
 */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct spread {
    double least, median, most;
} spread;

static spread spread_of(const double *x, size_t n) {
    double sorted[MAX_REP];
    memcpy(sorted, x, n * sizeof *x);
    qsort(sorted, n, sizeof *sorted, by_value);
    double median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
    return (spread){sorted[0], median, sorted[n - 1]};
}

static void print_list(const char *name, const double *x, size_t n) {
    printf("\"%s\": [", name);
    for (size_t i = 0; i < n; i++)
        printf("%s%.6g", i ? ", " : "", x[i]);
    fputs("], ", stdout);
}

static void print_json_text(const char *name, const char *text) {
    json_t *j = json_string(text);
    char *dump = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    printf("\"%s\": %s, ", name, dump ? dump : "null");
    peri_json_free(dump);
    json_decref(j);
}

static double peak_mib(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024; /* the kernel counts KiB */
}

static uint64_t cached_tokens(const bench *w) {
    uint64_t n = 0;
    for (size_t s = 0; s < (size_t)w->o->b; s++) {
        peri_session_stats st = {.size = sizeof st};
        peri_session_get_stats(w->session[s], &st);
        n += st.n_cached;
    }
    return n;
}

/* What came back of the rows of logits, warm-up included. */
static void json_rows(const bench *w) {
    peri_session_stats st = {.size = sizeof st};
    peri_session_get_stats(w->session[0], &st);
    printf("\"rows\": {\"likeliest\": %llu, \"whole\": %llu, \"bytes_read\": %llu}, ",
           (unsigned long long)st.n_row_top, (unsigned long long)st.n_row_whole,
           (unsigned long long)st.n_row_bytes);
}

/* ---- fractions of what the machine could do -----------------------------------------------------
 */

typedef struct ceilings {
    peri_ceiling top; /* read_gbps 0: could not be measured */
    double pp_macs;   /* multiplications with weights for a token of a prompt */
    double tg_bytes;  /* read in one step of generation: weights once, keys and values of all */
    double pp_tps, tg_tps; /* predicted; 0 = not known */
    double rss_mib;        /* from before the measuring */
    int64_t threads;
} ceilings;

static double number_of(const json_t *root, const char *key) {
    return json_number_value(json_object_get(root, key));
}

/* Speeds are shown all the same.  False: an error, with --strict. */
static bool lacks_ceilings(const peri_common *c, const char *why) {
    if (c->is_strict)
        return peri_out_fail("--strict: no shares of what the machine could do: %s", why), false;
    if (!c->is_quiet) peri_out_note("warning: no shares of what the machine could do: %s", why);
    return true;
}

/* After the speeds, so that it neither warms nor disturbs them. */
static bool find_ceilings(const bench *w, const peri_common *c, const peri_target *t,
                          ceilings *out) {
    const bench_opts *o = w->o;
    peri_error e = {0, ""};
    char *text = NULL;
    *out = (ceilings){.rss_mib = peak_mib(), .threads = peri_target_threads(c, t)};
    if (peri_model_explain(t->model, &text, &e) != PERI_OK) return lacks_ceilings(c, e.text);
    json_t *root = json_loads(text, 0, NULL);
    peri_text_free(text);
    double held = (double)o->d + 1 + (double)(o->n + 1) / 2; /* on the average of the steps */
    out->pp_macs = number_of(root, "macs_per_prompt_token");
    out->tg_bytes = number_of(root, "bytes_per_token") +
                    number_of(root, "kv_bytes_per_token") * held * (double)o->b;
    json_decref(root);
    if (o->b == 1)
        peri_model_predict(t->model, (uint32_t)o->d, (uint32_t)o->p, (uint32_t)held, &out->pp_tps,
                           &out->tg_tps);
    if (root && peri_ceiling_measure(out->threads, peri_model_isa(t->model), &out->top))
        return true;
    out->top = (peri_ceiling){0};
    return lacks_ceilings(c, "no memory or threads to measure it");
}

/* Fraction of the read bandwidth that `tps` generated tokens/s of o->b sequences need. */
static double read_fraction(const ceilings *c, const bench_opts *o, double tps) {
    return tps / (double)o->b * c->tg_bytes * 1e-9 / c->top.read_gbps;
}
/* Fraction of the unit's peak in `tps` tokens/s of a prompt; attention does not count. */
static double unit_fraction(const ceilings *c, double tps) {
    return tps * c->pp_macs * 1e-9 / c->top.unit_gmacs;
}

static void json_ceilings(const bench *w, const ceilings *c) {
    const bench_opts *o = w->o;
    double x[MAX_REP] = {0};
    if (c->top.read_gbps > 0) {
        printf("\"read_gbps\": %.2f, ", c->top.read_gbps);
        for (int64_t i = 0; i < o->r; i++)
            x[i] = read_fraction(c, o, w->tg_tps[i]);
        print_list("tg_read_fraction", x, o->n ? (size_t)o->r : 0);
    } else {
        fputs("\"read_gbps\": null, \"tg_read_fraction\": null, ", stdout);
    }
    if (c->top.unit == NULL) {
        fputs("\"unit\": null, \"unit_gmacs\": null, \"pp_unit_fraction\": null, ", stdout);
        return;
    }
    print_json_text("unit", c->top.unit);
    printf("\"unit_gmacs\": %.1f, ", c->top.unit_gmacs);
    for (int64_t i = 0; i < o->r; i++)
        x[i] = unit_fraction(c, w->pp_tps[i]);
    print_list("pp_unit_fraction", x, o->p ? (size_t)o->r : 0);
}

static void json_prediction(const char *name, double tps) {
    if (tps > 0)
        printf("\"%s\": %.3f, ", name, tps);
    else
        printf("\"%s\": null, ", name);
}

static void report_json(const bench *w, const peri_target *t, const ceilings *c) {
    const bench_opts *o = w->o;
    size_t r = (size_t)o->r;
    putchar('{');
    print_json_text("model", o->model);
    print_json_text("device", peri_model_device(t->model));
    print_json_text("isa", peri_model_isa(t->model));
    printf("\"threads\": %lld, \"n_prompt\": %lld, \"n_generate\": %lld, \"batch\": %lld, "
           "\"depth\": %lld, \"seed\": %llu, ",
           (long long)c->threads, (long long)o->p, (long long)o->n, (long long)o->b,
           (long long)o->d, (unsigned long long)o->seed);
    print_list("pp_tps", w->pp_tps, o->p ? r : 0);
    print_list("tg_tps", w->tg_tps, o->n ? r : 0);
    printf("\"load_ms\": %.1f, ", t->load_s * 1e3);
    if (o->p)
        printf("\"first_token_ms\": %.3f, ", spread_of(w->first_ms, r).median);
    else
        fputs("\"first_token_ms\": null, ", stdout);
    json_prediction("predicted_pp_tps", o->p ? c->pp_tps : 0);
    json_prediction("predicted_tg_tps", o->n ? c->tg_tps : 0);
    json_ceilings(w, c);
    json_rows(w);
    printf("\"rss_mib\": %.1f, \"cached_tokens\": %llu}\n", c->rss_mib,
           (unsigned long long)cached_tokens(w));
}

/* predicted: 0, of: NULL where there is none. */
static void add_row(peri_table *t, const char *what, const double *x, const bench_opts *o,
                    double predicted, double fraction, const char *of) {
    spread s = spread_of(x, (size_t)o->r);
    peri_table_row(t);
    peri_table_cell(t, "%s", what);
    peri_table_cell(t, "%lld", (long long)o->b);
    peri_table_cell(t, "%lld", (long long)o->d);
    peri_table_cell(t, "%.2f", s.median);
    peri_table_cell(t, "%.2f", s.least);
    peri_table_cell(t, "%.2f", s.most);
    if (predicted > 0)
        peri_table_cell(t, "%.2f", predicted);
    else
        peri_table_cell(t, "%s", "");
    if (of)
        peri_table_cell(t, "%.0f %% of %s", 100 * fraction, of);
    else
        peri_table_cell(t, "%s", "");
}

static void report_text(const bench *w, const peri_target *t, const ceilings *c) {
    static const char *const heads[] = {"test", "sequences", "depth",     "tokens/s",
                                        "min",  "max",       "predicted", "ceiling"};
    const bench_opts *o = w->o;
    char what[48];
    printf("model        ");
    peri_out_untrusted(stdout, o->model, strlen(o->model), false);
    printf("\ndevice       %s (%s, %lld threads)\n", peri_model_device(t->model),
           peri_model_isa(t->model), (long long)c->threads);
    printf("load         %.0f ms, peak memory %.0f MiB\n", t->load_s * 1e3, c->rss_mib);
    printf("seed         %llu, %lld repetitions after a warm-up, %llu cached tokens\n",
           (unsigned long long)o->seed, (long long)o->r, (unsigned long long)cached_tokens(w));
    if (o->p) printf("first token  %.1f ms\n", spread_of(w->first_ms, (size_t)o->r).median);
    putchar('\n');
    peri_table *table_out = peri_table_new(8, heads);
    if (o->p && table_out) {
        snprintf(what, sizeof what, "prompt %lld", (long long)o->p);
        add_row(table_out, what, w->pp_tps, o, c->pp_tps,
                c->top.unit ? unit_fraction(c, spread_of(w->pp_tps, (size_t)o->r).median) : 0,
                c->top.unit);
    }
    if (o->n && table_out) {
        snprintf(what, sizeof what, "generate %lld", (long long)o->n);
        bool is_known = c->top.read_gbps > 0;
        add_row(table_out, what, w->tg_tps, o, c->tg_tps,
                is_known ? read_fraction(c, o, spread_of(w->tg_tps, (size_t)o->r).median) : 0,
                is_known ? "reading" : NULL);
    }
    peri_table_print(table_out, 0, 0x7e);
}

/* The driver's arguments; NULL, after saying why, on failure. */
static json_t *sampler_arguments(const bench_opts *o) {
    json_t *j = json_object(), *text = NULL;
    const char *policy = o->policy ? o->policy : "entropy";
    bool ok = peri_host_text("--policy", policy, strlen(policy), &text) &&
              json_object_set_new(j, "policy", text) == 0;
    if (ok && o->model)
        ok = peri_host_text("--model", o->model, strlen(o->model), &text) &&
             json_object_set_new(j, "model", text) == 0;
    int failed = json_object_set_new(j, "vocab", json_integer(o->vocab ? o->vocab : 151936)) |
                 json_object_set_new(j, "picks", json_integer(o->n ? o->n : 1)) |
                 json_object_set_new(j, "rounds", json_integer(o->r)) |
                 json_object_set_new(j, "seed", json_integer((json_int_t)o->seed)) |
                 json_object_set_new(j, "json", json_boolean(o->is_json));
    if (ok && !failed) return j;
    json_decref(j);
    if (ok) peri_out_fail("out of memory");
    return NULL;
}

static int bench_sampler(const peri_args *args, const bench_opts *o) {
    if (o->vocab && o->model)
        return peri_opts_usage("bench", "--vocab and --model both name a vocabulary");
    if (o->b != 1 || o->d != 0 || o->p != DEFAULT_P)
        return peri_opts_usage("bench", "--sampler measures single tokens: -p, -b and -d have no "
                                        "meaning beside it");
    if (o->n < 1 || o->n > MAX_PICKS)
        return peri_opts_usage("bench", "--sampler: -n %lld, expected 1 to %d picks a round",
                               (long long)o->n, MAX_PICKS);
    json_t *j = sampler_arguments(o);
    if (j == NULL) return PERI_EXIT_ERROR;
    return peri_host_run(&args->common,
                         &(peri_job_spec){.driver = "bench", .arguments = j, .slice_ms = SLICE_MS});
}

static int run(const peri_args *args, void *values) {
    const bench_opts *o = values;
    peri_target t;
    if (o->of_sampler) return bench_sampler(args, o);
    if (o->vocab || o->policy)
        return peri_opts_usage("bench", "--vocab and --policy go with --sampler");
    if (o->model == NULL) return peri_opts_usage("bench", "which model? give -m MODEL");
    if (o->p == 0 && o->n == 0)
        return peri_opts_usage("bench", "-p 0 and -n 0 leave nothing to do");
    bench *w = calloc(1, sizeof *w);
    if (w == NULL) return peri_out_fail("out of memory");
    int64_t longest = o->p > o->n + 1 ? o->p : o->n + 1;
    peri_model_options mo = {.size = sizeof mo,
                             .n_ctx = (uint32_t)(o->d + longest),
                             .n_session = (uint32_t)o->b,
                             .kv_type = (uint32_t)o->kv /* in the order of PERI_KV_* */,
                             .no_prefix_cache = true};
    peri_interrupt_catch();
    bool ok = peri_target_open(&args->common, o->model, &mo, &t);
    if (ok) {
        w->o = o;
        w->model = t.model;
        ok = measure(w);
        ceilings c;
        bool is_whole = ok && find_ceilings(w, &args->common, &t, &c);
        if (ok && o->is_json) report_json(w, &t, &c);
        if (ok && !o->is_json) report_text(w, &t, &c);
        ok = is_whole;
        for (size_t s = 0; s < (size_t)o->b; s++)
            if (w->session[s]) peri_session_free(w->session[s]);
        peri_target_close(&t);
    }
    free(w->tok);
    free(w);
    if (peri_interrupt_seen()) return PERI_EXIT_INTERRUPTED;
    return ok ? PERI_EXIT_OK : PERI_EXIT_ERROR;
}

const peri_command peri_cmd_bench = {
    .name = "bench",
    .synopsis = "bench {-m MODEL | --sampler} [OPTION...]",
    .summary = "measure tokens per second, or the cost of sampling",
    .text =
        "Measures how fast a model reads a prompt and generates, with one warm-up and "
        "--repetitions counted runs. The table shows "
        "the median, least and greatest figure; --json gives every repetition.\n\n"
        "Tokens are random, fresh for every repetition, from the reported seed. Nothing is "
        "taken from a cache "
        "(cached_tokens counts and proves it), and every generated token is sampled "
        "(temperature 0.8, top-k 40, "
        "top-p 0.95, min-p 0.05) and fed back. Tokens per second count all sequences together. "
        "First token is the "
        "time from the start of the prompt to its first sampled token, the median of the "
        "repetitions. rss_mib is the greatest "
        "memory the process held, file pages included.\n\n"
        "The JSON document has the members model, device, isa, threads, n_prompt, n_generate, "
        "batch, depth, seed, "
        "pp_tps, tg_tps, predicted_pp_tps, predicted_tg_tps, read_gbps, tg_read_fraction, unit, "
        "unit_gmacs, pp_unit_fraction, load_ms, first_token_ms, rows, rss_mib and cached_tokens. "
        "rows counts the rows of logits that came back as their likeliest tokens (where a device "
        "has memory of its own) and whole, and the bytes read from devices for them, warm-up "
        "included.\n\n"
        "What the machine could do at best is measured after the repetitions, in the same "
        "threads: read_gbps, 1e9 bytes read per second; unit_gmacs, 1e9 8-bit "
        "multiplications per second of `unit`, the instruction that the integer kernels of "
        "the isa live on (null where none is known). tg_read_fraction is the share of "
        "read_gbps that the weights, keys and values of the generated tokens take (as if every "
        "layer saw all keys); pp_unit_fraction the share of unit_gmacs that the products of the "
        "prompt with weights take (attention and the head do not count). The column `ceiling` "
        "shows the medians of both. Where memory or threads for it are not to be had, a warning "
        "says so, and these members are null.\n\n"
        "predicted is what the figures of the devices promise (see perigee explain and perigee "
        "devices), for one sequence; sampling does not count.\n\n"
        "With --sampler three chains of samplers take turns, -r rounds of -n tokens each, over "
        "the same made-up logits: one given "
        "by parameters, the same described as a list in Lua, and that with a sampling policy "
        "behind top_k 40. The table shows microseconds per token, the median of the rounds. "
        "The first two must choose the same tokens "
        "from the same candidates, bit for bit; else the exit status is 1. The JSON document "
        "has the members n_vocab, picks, rounds, seed, policy, same_tokens, native, lua_chain, "
        "with_policy (median_us, min_us, max_us each) and policy_us.",
    .examples = "  perigee bench -m model.gguf -t 2\n"
                "  perigee bench --sampler --policy mine.lua --vocab 32000\n"
                "  perigee bench -m model.gguf -p 0 -n 32 -b 4 -d 1024 --json\n",
    .opts = table,
    .n_opt = N_OPTS(table),
    .uses = PERI_USES_PLUGINS | PERI_USES_MODEL,
    .value_bytes = sizeof(bench_opts),
    .set_defaults = set_defaults,
    .run = run,
};
