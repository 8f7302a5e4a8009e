/* SPDX-License-Identifier: MIT
 *
 * sha256.c - see sha256.h.  OpenSSL keeps its own heap here: its tables live as long as the
 * process, longer than an allocator that a test installs. */
#include "base/sha256.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/status.h"

#include "base/compiler.h"

peri_status peri_sha256(const void *data, size_t size, char text[PERI_SHA256_TEXT],
                        peri_error *err) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    text[0] = 0;
    if (EVP_Digest(data, size, digest, &n, EVP_sha256(), NULL) != 1 || n != 32)
        return peri_fail(err, PERI_E_OTHER, "OpenSSL: cannot compute a SHA-256");
    for (unsigned int i = 0; i < n; i++)
        snprintf(text + 2 * (size_t)i, 3, "%02x", digest[i]);
    return PERI_OK;
}
