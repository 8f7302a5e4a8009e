/* SPDX-License-Identifier: MIT
 *
 * perigee.h - the engine: run language models from GGUF files on the best device of this machine.
 *
 *     peri_runtime *rt; peri_model *m; peri_session *s; peri_error e;
 *     peri_runtime_new(NULL, &rt, &e);                         plugins found and probed
 *     peri_model_open(rt, "model.gguf", NULL, &m, &e);         file checked, device chosen, plan
 * made peri_session_new(m, NULL, &s, &e);                       an empty token timeline
 *     peri_session_feed_text(s, "Hello", 5, 0, &e);
 *     peri_session_generate(s, 64, print_piece, NULL, &why, &e);
 *
 * Every function that can fail returns a peri_status and fills *err (types.h).  Nothing here
 * prints, exits, or keeps hidden state.  Strings are UTF-8.  JSON documents are returned as
 * NUL-terminated text that the caller frees with peri_text_free.
 *
 * What a session says is a function of the model, its tokens, its sampling parameters, seed and
 * stream: not of other sessions, of chunks, threads, caches, or of how often it was rewound, saved
 * and restored.
 *
 * Threads: a runtime and its models may be used from several threads for reading (describe,
 * tokenize); sessions of one model must be driven by one thread at a time.  Free in the order
 * sessions, models, runtime; each accepts NULL. */
#ifndef PERIGEE_PERIGEE_H
#define PERIGEE_PERIGEE_H

#include <stdbool.h>

#include "perigee/types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PERI_VERSION "0.1.0"
PERI_API const char *peri_version(void);
/* Frees any text or array this interface returned; accepts NULL. */
PERI_API void peri_text_free(void *p);

/* ---- runtime ------------------------------------------------------------------------------------
 */
typedef struct peri_runtime peri_runtime;

/* Levels: 0 debug, 1 information, 2 warning, 3 error.  One line without newline; may come from any
 * thread. */
typedef void (*peri_message_fn)(void *user, int level, const char *line);

typedef struct peri_runtime_options {
    uint32_t size;                   /* sizeof(peri_runtime_options) */
    uint32_t n_thread;               /* CPU threads; 0 = from topology, affinity and quota */
    const char *const *plugin_files; /* [n_plugin_file] besides the search path */
    size_t n_plugin_file;
    const char *const *settings; /* [n_setting] "key=value" for plugins, such as "cpu.isa=avx2" */
    size_t n_setting;
    const char *script_dir;  /* folder that holds arch/; NULL = beside the library */
    peri_message_fn message; /* NULL = silent */
    void *message_user;
    bool is_strict; /* warnings and fallbacks become errors */
    bool is_pinned; /* refuse plugins whose bytes are not those recorded at their first use */
} peri_runtime_options;

/* Looks at the machine and at every plugin.  A bad plugin is listed, never fatal.  opts may be
 * NULL. */
PERI_API peri_status peri_runtime_new(const peri_runtime_options *opts, peri_runtime **out,
                                      peri_error *err);
PERI_API void peri_runtime_free(peri_runtime *rt);
/* Machine, plugin files, devices and reasons, as `perigee devices --json` prints them. */
PERI_API peri_status peri_runtime_devices(const peri_runtime *rt, char **json, peri_error *err);

/* Measure every device anew, for common types of weights: what placements and predictions go by.
 * Otherwise devices are measured when a placement first depends on it, and the figures are kept in
 * figures.json of the cache folder.  A device that cannot be measured is a warning.  PERI_E_INVALID
 * with the setting place.figures=declared. */
PERI_API peri_status peri_runtime_calibrate(peri_runtime *rt, peri_error *err);

/* ---- caches on disk -----------------------------------------------------------------------------
 */
/* What is kept below $XDG_CACHE_HOME/perigee: folder, caches (name, holds, files, bytes, oldest,
 * newest), files (file, cache, bytes, modified), unknown (files no cache uses), problems.  Runs no
 * plugin, writes nothing. */
PERI_API peri_status peri_caches_list(char **json, peri_error *err);

typedef struct peri_caches_prune_options {
    uint32_t size;           /* sizeof(peri_caches_prune_options) */
    const char *const *only; /* [n_only] names of caches; none: all */
    size_t n_only;
    uint64_t keep_bytes; /* leave the newest files that fit, together; 0: leave none */
    bool is_dry_run;     /* only tell */
} peri_caches_prune_options;

/* Removes files of caches, the oldest first; they are made again when needed.  JSON: folder,
 * removed (file, cache, bytes, modified), bytes (removed), left_bytes, problems (what could not be
 * removed). opts may be NULL. */
PERI_API peri_status peri_caches_prune(const peri_caches_prune_options *opts, char **json,
                                       peri_error *err);

typedef struct peri_plugin_check_options {
    uint32_t size;
    uint32_t device;                       /* index among the plugin's devices */
    const char *const *only, *const *skip; /* names of stages; no `only`: all */
    size_t n_only, n_skip;
    const char *op;      /* one operation of op.def, "LINEAR"; NULL: all */
    uint32_t timeout_ms; /* without a sign of life, and ten times that for a stage; 0 = 10000 */
    bool is_bench;       /* measure; without `only`, nothing is checked */
    const char *type;    /* one type, "Q4_K"; what has no weights or cache is F32.  NULL: all */
    double seconds;      /* that measuring may take; 0 = 30 */
    bool is_small;       /* only shapes of few multiplications: for simulators */
} peri_plugin_check_options;

/* Run the conformance kit over a plugin file, each stage in a child process.  *json: the report
 * that `perigee plugin-check --json` prints.  Findings are no failure: *passed is false then.  opts
 * may be NULL.  PERI_E_INVALID for an unknown stage, operation or type. */
PERI_API peri_status peri_plugin_check(const peri_runtime *rt, const char *file,
                                       const peri_plugin_check_options *opts, char **json,
                                       bool *passed, peri_error *err);
/* A spec of scripts/arch by architecture name, parent merged, as text. */
PERI_API peri_status peri_runtime_arch(const peri_runtime *rt, const char *name, char **text,
                                       peri_error *err);

/* ---- model --------------------------------------------------------------------------------------
 */
typedef struct peri_model peri_model;

/* Type of the stored keys and values.  Blocks of 32 take 8.5 or 4.5 bits per number instead of 16,
 * wherever heads are multiples of 32 wide and a device reads them (the cpu does), at some accuracy.
 */
enum { PERI_KV_F16 = 0, PERI_KV_F32 = 1, PERI_KV_Q8_0 = 2, PERI_KV_Q4_0 = 3 };
/* Where devices that compute in host memory read weights: from a copy in large pages where there is
 * room beside keys and values, always from the mapped file, always from a copy. */
enum { PERI_WEIGHTS_AUTO = 0, PERI_WEIGHTS_MAP = 1, PERI_WEIGHTS_COPY = 2 };

/* Loading progress; done of total bytes.  A nonzero return cancels (PERI_E_CANCELLED). */
typedef int (*peri_progress_fn)(void *user, uint64_t done, uint64_t total);

typedef struct peri_model_options {
    uint32_t size;      /* sizeof(peri_model_options) */
    uint32_t n_ctx;     /* tokens a session may hold; 0 = trained length, capped by memory */
    uint32_t n_session; /* sessions that may be full at once; 0 = 1.  KV room is n_ctx * n_session
                           tokens */
    uint32_t n_batch;   /* most tokens in one step; 0 = 512 */
    uint32_t kv_type;   /* PERI_KV_* */
    const char *device; /* "cpu": that one; "cuda:0,cpu": these, the preferred first, the others for
                           what it declines or cannot hold; NULL = best predicted */
    bool metadata_only; /* look at the file; no device, no sessions */
    peri_progress_fn progress;
    void *progress_user;
    bool no_prefix_cache; /* every token fed is computed */
    uint32_t weights;     /* PERI_WEIGHTS_* */
    const char *place; /* "layers 0-9 on cuda:0; experts on cpu; head on cuda:1": what must be where
                          (perigee explain --help); NULL = nothing */
} peri_model_options;

/* Open a GGUF file (first shard of a sharded one).  opts may be NULL. */
PERI_API peri_status peri_model_open(peri_runtime *rt, const char *path,
                                     const peri_model_options *opts, peri_model **out,
                                     peri_error *err);
PERI_API void peri_model_close(peri_model *m);
PERI_API int32_t peri_model_n_vocab(const peri_model *m);
PERI_API int32_t
peri_model_n_ctx(const peri_model *m); /* of a session; trained length when metadata_only */
/* Devices, the instruction set of the first, and the reason of the placement: "cpu", "avx512",
 * "only native device; ..." */
PERI_API const char *peri_model_device(const peri_model *m);
PERI_API const char *peri_model_isa(const peri_model *m);
PERI_API const char *peri_model_placement(const peri_model *m);

/* Facets of `perigee show`.  JSON: SUMMARY {architecture, name, parameters, bytes, types, context,
 * ...}, PARAMETERS (the sampling and model parameters with their origin), TENSORS [{name, type,
 * shape, bytes, offset, state}], METADATA (all keys, long arrays shortened).  Text: ARCH (the
 * flattened spec), TEMPLATE (chat template, empty if none). */
typedef enum peri_facet {
    PERI_SHOW_SUMMARY,
    PERI_SHOW_PARAMETERS,
    PERI_SHOW_TENSORS,
    PERI_SHOW_METADATA,
    PERI_SHOW_ARCH,
    PERI_SHOW_TEMPLATE
} peri_facet;
PERI_API peri_status peri_model_show(const peri_model *m, peri_facet facet, char **text,
                                     peri_error *err);
/* Placement: {"device" (all that run something, "cuda:0,cpu"), "isa", "why", "candidates":
 * [{device, why}], "placement": ["layers 0-3 on cuda:0", ...], "rules": [{rule, device, decides}],
 * "buckets": [{bucket, tokens,
 * sequences, "ops": [{op, weights, numerics, device, count}], "lowered": [{op, count, layers,
 * declined_by, why}], "elsewhere": [{op, count, layers, device, declined_by, why}]}], "crossings":
 * {copies_per_token, bytes_per_token}, "memory": {weights, kv, arena, "devices": [{device, weights,
 * kv, arena, room}]}, "bytes_per_token" (of weights), "kv_bytes_per_token",
 * "macs_per_prompt_token", "figures": [{device, figure, type, value, unit, from ("measured
 * 2026-11-26", "declared by the plugin", "assumed")}], "predicted_tg_tps" (of a short context),
 * "predicted_pp_tps" (of a prompt of n_batch tokens), "notes": [...]}.  Measures the devices that
 * are used where that was not done before, unless a service drives the model. */
PERI_API peri_status peri_model_explain(const peri_model *m, char **json, peri_error *err);
/* Tokens per second that the figures of the devices promise a session alone: of a prompt of
 * n_prompt tokens after n_before others (*pp_tps), of generating after n_held others (*tg_tps).  0:
 * a figure is unknown.  Measures devices as peri_model_explain does. */
PERI_API void peri_model_predict(const peri_model *m, uint32_t n_before, uint32_t n_prompt,
                                 uint32_t n_held, double *pp_tps, double *tg_tps);

/* ---- text and tokens ----------------------------------------------------------------------------
 */
enum {
    PERI_TOK_NO_SPECIAL = 1,   /* add no BOS or EOS */
    PERI_TOK_PARSE_SPECIAL = 2 /* text of control tokens becomes those tokens */
};
/* *ids: fresh array of *n, freed with peri_text_free.  PERI_E_UNSUPPORTED when the file has no
 * tokenizer we know. */
PERI_API peri_status peri_model_tokenize(const peri_model *m, const char *text, size_t size,
                                         uint32_t flags, int32_t **ids, size_t *n, peri_error *err);
/* Text of tokens; want_special shows control tokens.  *size excludes the final NUL. */
PERI_API peri_status peri_model_detokenize(const peri_model *m, const int32_t *ids, size_t n,
                                           bool want_special, char **text, size_t *size,
                                           peri_error *err);

/* ---- session ------------------------------------------------------------------------------------
 */
typedef struct peri_session peri_session;

/* What stands behind sampling parameters that are not given: nothing, or what the model file
 * recommends (general.sampling.*) and else the usual values of `run`, of Ollama, of the OpenAI API.
 * `perigee show --parameters` lists those of `run` with where each comes from. */
enum {
    PERI_DEFAULTS_OFF = 0,
    PERI_DEFAULTS_RUN = 1,
    PERI_DEFAULTS_OLLAMA = 2,
    PERI_DEFAULTS_OPENAI = 3
};

/* Sampling parameters: 0 = not given.  Names, ranges and meanings as in core/run/sampling.def; out
 * of range is PERI_E_RANGE naming both. */
typedef struct peri_session_options {
    uint32_t size;      /* sizeof(peri_session_options) */
    uint64_t seed;      /* random numbers are a function of (seed, stream, position) */
    float temp;         /* 0 = greedy (ties to the lower id), with PERI_DEFAULTS_OFF */
    float top_p, min_p; /* 0 = off */
    int32_t top_k;      /* 0 = off */
    bool want_special;  /* pieces show control tokens */
    uint32_t defaults;  /* PERI_DEFAULTS_* */
    float typical_p, top_n_sigma, xtc_probability, xtc_threshold, dynatemp_range, dynatemp_exponent;
    int32_t repeat_last_n; /* tokens the penalties look back over; -1: all */
    float repeat_penalty, presence_penalty, frequency_penalty;
    float dry_multiplier, dry_base;
    int32_t dry_allowed_length, dry_penalty_last_n;
    int32_t mirostat; /* 1 or 2 */
    float mirostat_tau, mirostat_eta, adaptive_target, adaptive_decay;
    int32_t min_keep, ignore_eos;
    int32_t heal; /* 1: a prompt that ends inside a token is continued from before that token */
    /* "NAME=VALUE" [n_sampling], after all others: the names above, where 0 means 0; seed;
     * samplers="top_k;temperature" (the order of the links); logit_bias=ID:BIAS or ID:false and
     * dry_sequence_breaker=TEXT, several times each.  Borrowed for the call.  PERI_E_NOT_FOUND
     * names the nearest name. */
    const char *const *sampling;
    size_t n_sampling;
} peri_session_options;

/* NULL options: seed 0, greedy. */
PERI_API peri_status peri_session_new(peri_model *m, const peri_session_options *opts,
                                      peri_session **out, peri_error *err);
PERI_API void peri_session_free(peri_session *s);
PERI_API int32_t peri_session_n_tok(const peri_session *s); /* tokens held */

/* One share of a step: tokens appended to a session, and where the logits go. */
typedef struct peri_feed {
    peri_session *session;
    const int32_t *tok; /* [n_tok], borrowed; ids outside the vocabulary are PERI_E_RANGE */
    size_t n_tok;
    float *logits; /* f32 [n_tok][n_vocab] when all_logits, else [n_vocab] of the last token; NULL =
                      not wanted */
    bool all_logits;
} peri_feed;
/* Compute all shares together, in chunks of at most n_batch tokens (chunk > 0: that many tokens per
 * session and chunk).  Results do not depend on the grouping or chunking.  Each session at most
 * once.  Nothing is taken from the prefix cache.  On failure no session has moved. */
PERI_API peri_status peri_model_step(peri_model *m, const peri_feed *feeds, size_t n_feed,
                                     size_t chunk, peri_error *err);

/* Append tokens; the last token's logits become the session's next prediction.  Whole blocks (64
 * tokens, unless the device prefers another size) that any session of the model has fed after the
 * same beginning are shared instead of computed, when the session is empty or ends at a block
 * border.  PERI_E_RANGE: over the context, or an id outside the vocabulary.  PERI_E_NOMEM: no room
 * for keys and values.  On failure nothing was appended. */
PERI_API peri_status peri_session_feed(peri_session *s, const int32_t *tok, size_t n_tok,
                                       peri_error *err);
/* Tokenize (flags PERI_TOK_*) and feed. */
PERI_API peri_status peri_session_feed_text(peri_session *s, const char *text, size_t size,
                                            uint32_t flags, peri_error *err);
/* Sample the next token from the last logits; does not append it.  Computes the
 * last token's logits when they are not there (after a rewind).  PERI_E_INVALID in an empty
 * session. */
PERI_API peri_status peri_session_sample(peri_session *s, int32_t *tok, peri_error *err);
/* Forget all but the first n tokens.  Copies no keys or values. */
PERI_API peri_status peri_session_rewind(peri_session *s, int32_t n, peri_error *err);

/* A second session with the same tokens, prediction and sampler, on a stream of random numbers of
 * its own (the k-th child of a session always gets the same).  Keys and values are shared; the
 * first to write behind a shared position copies one partly filled block. */
PERI_API peri_status peri_session_fork(peri_session *s, peri_session **out, peri_error *err);
/* Remember this position with its prediction, so that rewinding there computes nothing.  The mark
 * is the caller's, freed before or after the session; it is gone once the session was rewound to
 * before it (PERI_E_INVALID).  Only for the session it was made from. */
typedef struct peri_mark peri_mark;
PERI_API peri_status peri_session_mark(peri_session *s, peri_mark **out, peri_error *err);
PERI_API void peri_mark_free(peri_mark *m);
PERI_API peri_status peri_session_rewind_to(peri_session *s, const peri_mark *m, peri_error *err);
/* Write all of the session to a file, replaced in one piece; and a session from such a file, which
 * goes on exactly as the saved one would have.  The file fits this model (not another quantization
 * of it) with the same kv_type.  PERI_E_CORRUPT names file, field, offset, found and expected. */
PERI_API peri_status peri_session_save(const peri_session *s, const char *path, peri_error *err);
PERI_API peri_status peri_model_restore(peri_model *m, const char *path, peri_session **out,
                                        peri_error *err);

typedef enum peri_stop {
    PERI_STOP_LENGTH,
    PERI_STOP_EOG,
    PERI_STOP_CALLBACK,
    PERI_STOP_CONTEXT
} peri_stop;
/* A piece of output: whole UTF-8 characters, possibly none (size 0) while a character is
 * incomplete.  Nonzero return stops. */
typedef int (*peri_piece_fn)(void *user, const char *text, size_t size, int32_t tok);
/* Generate at most n tokens, calling piece for each.  *why (may be NULL) tells why it ended. */
PERI_API peri_status peri_session_generate(peri_session *s, size_t n, peri_piece_fn piece,
                                           void *user, peri_stop *why, peri_error *err);

/* Counters since the session began. */
typedef struct peri_session_stats {
    uint32_t size;
    uint64_t n_prompt, n_generated,
        n_cached; /* tokens fed in, sampled; of those fed, taken from the prefix cache */
    uint64_t prompt_ns, generate_ns;
    uint64_t n_computed;        /* tokens that went through the model */
    uint64_t n_kv_copied_bytes; /* of the whole model: keys and values copied because a shared block
                                   was written */
    /* Of the whole model: rows of logits that came as their likeliest tokens, or whole; and bytes
     * read for them from devices with memory of their own. */
    uint64_t n_row_top, n_row_whole, n_row_bytes;
} peri_session_stats;
PERI_API void peri_session_get_stats(const peri_session *s, peri_session_stats *out);

/* ---- script -------------------------------------------------------------------------------------
 */
/* PERI_DIM beside a stream: text about the answer rather than of it, to be shown dimmed where that
 * is possible. */
enum { PERI_STDOUT = 1, PERI_STDERR = 2, PERI_DIM = 256 };

/* What a script may ask of the program around it.  A member that is NULL: nothing is written, input
 * is at its end, the answer is no.  All but read_line are called on the thread in peri_script_run;
 * read_line may block and is called on a thread of its own, so that sessions and tasks go on
 * meanwhile.  That thread leaves signals as the caller of peri_script_run has them; all other
 * threads made here block them. */
typedef struct peri_script_host {
    void *user;
    /* UTF-8 as it comes, no newline added.  An error ends the script (a closed pipe). */
    peri_status (*write)(void *user, int stream, const char *data, size_t size);
    /* One line without its newline; *line is borrowed until the next call, NULL at end of input.
     * PERI_E_CANCELLED when Ctrl-C ended it: the script sees "cancelled" and may ask again.  Must
     * return soon after peri_script_interrupt; the script's end waits for it. */
    peri_status (*read_line)(void *user, const char *prompt, const char **line);
    /* May the script have what this line names?  A yes is remembered for the script as it is. */
    bool (*ask)(void *user, const char *question);
    /* A model loads, or (path "") the driver works: done of total bytes; done == total at the end.
     */
    void (*progress)(void *user, const char *path, uint64_t done, uint64_t total);
    /* Are the lines read from now on to be kept for later sessions?  NULL: none ever are. */
    void (*keep_history)(void *user, bool is_kept);
} peri_script_host;

typedef struct peri_script_options {
    uint32_t size;         /* sizeof(peri_script_options) */
    const char *entry;     /* "run": the driver perigee/cli/run.lua of the script folder; with a '/'
                              or ".lua" in it: the path of a user's script, run in the sandbox */
    const char *arguments; /* JSON for the driver (host.arguments); NULL = {} */
    const char *const *allow; /* [n_allow] granted capabilities, "fs.read=DIR" */
    size_t n_allow;
    size_t max_bytes;  /* Lua memory; 0 = 256 MiB */
    uint32_t slice_ms; /* longest run of Lua code between two waits; 0 = 500 */
    uint64_t seed;     /* of sessions that name none, and of math.random */
    peri_script_host host;
} peri_script_options;

/* Run a script to its end: until its main function and all its tasks have ended.  PERI_OK when it
 * could be started: *exit_status is then what the driver returned (0 for none), 1 after an error,
 * whose message and traceback went to stream 2, and 130 when interrupts ended it.  Otherwise
 * nothing has run.  One script at a time per runtime: PERI_E_INVALID. */
PERI_API peri_status peri_script_run(peri_runtime *rt, const peri_script_options *opts,
                                     int *exit_status, peri_error *err);
/* Async-signal-safe, any thread; nothing is remembered when no script runs.  Calls what the driver
 * gave to host.on_interrupt; without that, or when the call for the one before has not ended, ends
 * the script: its tasks are cancelled and their <close> variables closed.  Not beside
 * peri_runtime_free. */
PERI_API void peri_script_interrupt(peri_runtime *rt);

#ifdef __cplusplus
}
#endif
#endif
