/* SPDX-License-Identifier: MIT
 *
 * doc.h - JSON documents that describe something.
 *
 * jansson's _new functions return NULL when memory is out and its setters refuse NULL, so each
 * document is built without checks and judged once: peri_doc_put remembers a failure. */
#ifndef PERI_API_DOC_H
#define PERI_API_DOC_H

#include <stdbool.h>

#include "base/json.h"
#include "base/text.h"
#include "perigee/types.h"

typedef struct peri_doc {
    json_t *root;
    bool failed;
} peri_doc;

/* The value is taken in any case. */
void peri_doc_put(peri_doc *d, json_t *object, const char *key, json_t *value);
void peri_doc_append(peri_doc *d, json_t *array, json_t *value);
/* Text of a file as JSON: bytes that are no UTF-8 become U+FFFD. */
json_t *peri_doc_text(peri_str s);
json_t *peri_doc_cstr(const char *s);
/* The document as text, which the caller frees with peri_free; the document is gone.
 * PERI_E_NOMEM when anything failed. */
peri_status peri_doc_finish(peri_doc *d, char **text, peri_error *err);

#endif
