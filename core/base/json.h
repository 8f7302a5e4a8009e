/* SPDX-License-Identifier: MIT
 *
 * json.h - jansson through our allocator, with running out of memory told apart from bad text. */
#ifndef PERI_BASE_JSON_H
#define PERI_BASE_JSON_H

#include <jansson.h>

#include "perigee/types.h"

/* Route jansson through alloc.h, once per process; call before any use of it. */
void peri_json_init(void);
/* Parse; PERI_E_NOMEM or PERI_E_CORRUPT with place. */
peri_status peri_json_parse(const char *data, size_t size, json_t **out, peri_error *err);
/* The text of j, freed with peri_free; j NULL counts as out of memory.  flags: jansson's. */
peri_status peri_json_dump(const json_t *j, size_t flags, char **out, peri_error *err);
/* A string as JSON text, freed with peri_free; null for NULL and for what is no UTF-8. */
peri_status peri_json_quote(const char *value, char **out, peri_error *err);

#endif
