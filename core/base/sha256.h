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

#endif
