/* SPDX-License-Identifier: MIT
 *
 * sha256.h - SHA-256 as text, by OpenSSL. */
#ifndef PERI_BASE_SHA256_H
#define PERI_BASE_SHA256_H

#include "perigee/types.h"

enum { PERI_SHA256_TEXT = 65 }; /* 64 lower-case hexadecimal digits and a NUL */

/* OTHER when OpenSSL refuses (no provider offers SHA-256).  Any thread. */
peri_status peri_sha256(const void *data, size_t size, char text[PERI_SHA256_TEXT],
                        peri_error *err);

/* The same piece by piece.  peri_hash_end may be called once; peri_hash_free accepts NULL. */
typedef struct peri_hash peri_hash;
peri_status peri_hash_new(peri_hash **out, peri_error *err);
peri_status peri_hash_add(peri_hash *h, const void *data, size_t size, peri_error *err);
peri_status peri_hash_end(peri_hash *h, char text[PERI_SHA256_TEXT], peri_error *err);
void peri_hash_free(peri_hash *h);

#endif
