/* SPDX-License-Identifier: MIT
 *
 * run_chat.c - perigee run without --raw: the options as JSON for scripts/perigee/cli/run.lua.
 *
 * What the words mean is decided there; here they get a shape.  Numbers are written by jansson with
 * 17 digits, so a parameter arrives as the number that was typed. */
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "out.h"
#include "run_opts.h"
#include "target.h"

static bool set(json_t *o, const char *name, json_t *v) {
    if (json_object_set_new(o, name, v) == 0) return true;
    peri_out_fail("out of memory");
    return false;
}

static bool set_text(json_t *o, const char *name, const char *what, const char *text, size_t size) {
    json_t *j;
    return peri_host_text(what, text, size, &j) && set(o, name, j);
}

static json_t *json_REAL(double v) {
    return json_real(v);
}

static json_t *json_INT(int64_t v) {
    return json_integer(v);
}

static json_t *json_FLAG(bool v) {
    return json_boolean(v);
}

/* The links of "top_k;temperature" as a list. */
static bool set_samplers(json_t *p, const char *text) {
    json_t *list = json_array();
    if (!set(p, "samplers", list)) return false;
    while (*text) {
        size_t n = strcspn(text, ";");
        json_t *j;
        if (!peri_host_text("--samplers", text, n, &j)) return false;
        if (json_array_append_new(list, j) != 0) return false;
        text += n + (text[n] == ';');
    }
    return true;
}

static bool set_file(json_t *j, const char *name, const char *path) {
    char *text = NULL;
    size_t size = 0;
    bool ok = peri_read_file(path, &text, &size) && set_text(j, name, path, text, size);
    free(text);
    return ok;
}

json_t *peri_think_json(int think) {
    static const char *const LEVEL[] = {"low", "medium", "high"};
    return think <= 2 ? json_boolean(think == 1) : json_string(LEVEL[think - 3]);
}

/* The parameters that were given, by their names in assistants. */
static bool set_parameters(json_t *p, const peri_common *c, const peri_run_opts *o) {
    static const char *const kv_types[] = {"f16", "f32", "q8_0", "q4_0"}; /* as --kv lists them */
    const peri_run_sampling *s = &o->sampling;
    bool ok = true;
#define PERI_SAMPLING_PARAM(name, KIND, lo, hi, off, usual, ollama, openai, key, meaning)          \
    if (ok && PERI_GIVEN_##KIND(s->name)) ok = set(p, #name, json_##KIND(s->name));
#include "run/sampling.def"
    if (ok && o->n > 0) ok = set(p, "max", json_integer(o->n));
    if (ok && o->n_ctx != PERI_UNSET) ok = set(p, "ctx", json_integer(o->n_ctx));
    if (ok && c->device) ok = set_text(p, "device", "--device", c->device, strlen(c->device));
    if (ok && c->place) ok = set_text(p, "place", "--place", c->place, strlen(c->place));
    if (ok && c->weights)
        ok = set(p, "weights", json_string(c->weights == PERI_WEIGHTS_MAP ? "map" : "copy"));
    if (ok && o->seed != o->fresh) ok = set(p, "seed", json_integer((json_int_t)o->seed));
    if (ok && o->think) ok = set(p, "think", peri_think_json(o->think));
    if (ok && o->no_think) ok = set(p, "think", json_false());
    if (ok && o->kv) ok = set(p, "kv", json_string(kv_types[o->kv]));
    if (ok && o->samplers) ok = set_samplers(p, o->samplers);
    if (ok && o->grammar) ok = set_file(p, "grammar", o->grammar);
    return ok && peri_host_list(p, "stop", &o->stop) &&
           peri_host_list(p, "grammar_trigger", &o->triggers) &&
           peri_host_list(p, "dry_sequence_breakers", &o->breakers);
}

/* The PROMPT words; an empty list too. */
static bool set_words(json_t *j, const peri_args *args) {
    peri_opt_list words = {args->arg + 1, args->n - 1};
    return words.n ? peri_host_list(j, "words", &words) : set(j, "words", json_array());
}

/* "json" stands for itself; else { name = file, text = what it holds }. */
static bool set_format(json_t *j, const char *format) {
    if (!format) return true;
    if (strcmp(format, "json") == 0) return set(j, "format", json_string("json"));
    json_t *file = json_object();
    return set(j, "format", file) && set_text(file, "name", "--format", format, strlen(format)) &&
           set_file(file, "text", format);
}

/* Was the device asked for by the environment, and not by an option? */
static bool is_usual_device(const peri_common *c) {
    return c->device != NULL && c->device == getenv("PERIGEE_DEVICE");
}

static json_t *arguments(const peri_args *args, const peri_run_opts *o, peri_kind kind) {
    json_t *j = json_object(), *p = json_object();
    bool ok = set(j, "parameters", p) && set_parameters(p, &args->common, o) &&
              set_text(j, "target", "TARGET", args->arg[0], strlen(args->arg[0])) &&
              set(j, "kind", json_string(peri_kind_name(kind))) &&
              set(j, "trace", json_boolean(o->want_trace)) && set_words(j, args) &&
              set(j, "is_usual_device", json_boolean(is_usual_device(&args->common))) &&
              peri_host_list(j, "logit_bias", &o->logit_bias) &&
              (!o->prompt_file || set_file(j, "prompt_file", o->prompt_file)) &&
              set_format(j, o->format);
    ok = ok && peri_host_list(j, "assistants", &o->assistants);
    if (ok && o->model) ok = set_text(j, "model", "--model", o->model, strlen(o->model));
    if (ok && o->system) ok = set_text(j, "system", "--system", o->system, strlen(o->system));
    if (ok) return j;
    json_decref(j);
    return NULL;
}

int peri_run_chat(const peri_args *args, const peri_run_opts *o) {
    if (o->seed != o->fresh && o->seed > INT64_MAX)
        return peri_opts_usage("run", "--seed: found %llu, expected at most %lld without --raw",
                               (unsigned long long)o->seed, (long long)INT64_MAX);
    peri_kind kind = peri_target_kind(args->arg[0]);
    if (kind == PERI_KIND_NONE) return PERI_EXIT_ERROR;
    peri_job_spec job = {.driver = "run", .allow = o->allow, .seed = o->seed};
    job.arguments = arguments(args, o, kind);
    return job.arguments ? peri_host_run(&args->common, &job) : PERI_EXIT_ERROR;
}
