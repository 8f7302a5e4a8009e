/* SPDX-License-Identifier: MIT
 *
 * json.c - jansson over our allocator.
 *
 * jansson does not always say that it failed for lack of memory: a parse reports a syntax error,
 * and 2.14's json_dumps may return text with a hole in it.  Our allocation hook notes every
 * refusal, per thread. */
#include "base/json.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/alloc.h"
#include "base/status.h"

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
