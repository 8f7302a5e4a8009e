/* SPDX-License-Identifier: MIT
 *
 * json.c - jansson over our allocator, and a device's description as JSON, there and back.
 *
 * jansson does not always say that it failed for lack of memory: a parse reports a syntax error,
 * and 2.14's json_dumps may return text with a hole in it.  Our allocation hook notes every
 * refusal, per thread. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "plugin/plugin_int.h"

#include "base/compiler.h"

static _Thread_local bool was_refused; /* an allocation failed since the last look */

static void *json_alloc(size_t bytes) {
    void *p = peri_alloc(bytes);
    if (p == NULL) was_refused = true;
    return p;
}

static void set_hooks(void) {
    json_set_alloc_funcs(json_alloc, peri_free);
}

void peri_json_init(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_hooks);
}

peri_status peri_json_parse(const char *data, size_t size, json_t **out, peri_error *err) {
    json_error_t e;
    was_refused = false;
    *out = json_loadb(data, size, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
    if (*out != NULL) return PERI_OK;
    if (was_refused) return peri_fail(err, PERI_E_NOMEM, "JSON: out of memory");
    return peri_fail(err, PERI_E_CORRUPT, "JSON: byte %d: %s", e.position, e.text);
}

peri_status peri_json_dump(const json_t *j, size_t flags, char **out, peri_error *err) {
    was_refused = false;
    *out = j != NULL ? json_dumps(j, flags | JSON_ENCODE_ANY) : NULL;
    if (*out != NULL && !was_refused) return PERI_OK;
    peri_free(*out);
    *out = NULL;
    return peri_fail(err, PERI_E_NOMEM, "JSON: out of memory");
}

peri_status peri_json_quote(const char *value, char **out, peri_error *err) {
    was_refused = false;
    json_t *j = value != NULL ? json_string(value) : NULL; /* NULL too when it is no UTF-8 */
    if (j == NULL && !was_refused) j = json_null();
    peri_status status = peri_json_dump(j, 0, out, err);
    json_decref(j);
    return status;
}

json_t *peri_json_from_info(const peri_dev_info *d) {
    /* As text, since jansson's integers are signed. */
    char total[24], unused[24];
    snprintf(total, sizeof total, "%llu", (unsigned long long)d->mem_total);
    snprintf(unused, sizeof unused, "%llu", (unsigned long long)d->mem_free);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:f, s:I}", "name", d->name, "model",
                     d->model, "isa", d->isa, "location", d->location, "flags",
                     (json_int_t)d->flags, "mem_total", total, "mem_free", unused, "mem_gbps",
                     (double)d->mem_gbps, "kv_block_tokens", (json_int_t)d->kv_block_tokens);
}

static bool get_text(const json_t *j, const char *key, char *out, size_t room) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_string(v) || json_string_length(v) != strlen(json_string_value(v))) return false;
    /* Escaped when it was written; what would change now is not ours. */
    return peri_escape(out, room, json_string_value(v)) && strcmp(out, json_string_value(v)) == 0;
}

static bool get_u64(const json_t *j, const char *key, uint64_t *out) {
    const char *s = json_string_value(json_object_get(j, key));
    uint64_t v = 0;
    if (s == NULL || *s == 0) return false;
    for (; *s != 0; s++)
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return false;
    *out = v;
    return true;
}

static bool get_u32(const json_t *j, const char *key, uint32_t *out) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
        return false;
    *out = (uint32_t)json_integer_value(v);
    return true;
}

peri_status peri_json_to_info(const json_t *j, peri_dev_info *out, peri_error *err) {
    const json_t *gbps = json_object_get(j, "mem_gbps");
    *out = (peri_dev_info){.size = sizeof *out};
    if (!get_text(j, "name", out->name, sizeof out->name) || out->name[0] == 0 ||
        !get_text(j, "model", out->model, sizeof out->model) ||
        !get_text(j, "isa", out->isa, sizeof out->isa) ||
        !get_text(j, "location", out->location, sizeof out->location) ||
        !get_u32(j, "flags", &out->flags) || !get_u64(j, "mem_total", &out->mem_total) ||
        !get_u64(j, "mem_free", &out->mem_free) || !json_is_number(gbps) ||
        !get_u32(j, "kv_block_tokens", &out->kv_block_tokens) || out->flags >> 16 != 0 ||
        !(json_number_value(gbps) >= 0 && json_number_value(gbps) < 1e9))
        return peri_fail(err, PERI_E_CORRUPT,
                         "a device's description lacks a member or has a wrong one");
    out->mem_gbps = (float)json_number_value(gbps);
    return PERI_OK;
}
