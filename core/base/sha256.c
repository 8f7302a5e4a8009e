/* SPDX-License-Identifier: MIT
 *
 * sha256.c - see sha256.h.  OpenSSL keeps its own heap here: its tables live as long as the
 * process, longer than an allocator that a test installs. */
#include "base/sha256.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "base/status.h"

#include "base/compiler.h"

static void write_hex(const unsigned char *digest, char text[PERI_SHA256_TEXT]) {
    for (size_t i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

peri_status peri_sha256(const void *data, size_t size, char text[PERI_SHA256_TEXT],
                        peri_error *err) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    text[0] = 0;
    if (EVP_Digest(data, size, digest, &n, EVP_sha256(), NULL) != 1 || n != 32)
        return peri_fail(err, PERI_E_OTHER, "OpenSSL: cannot compute a SHA-256");
    write_hex(digest, text);
    return PERI_OK;
}

/* A peri_hash is OpenSSL's context. */
peri_status peri_hash_new(peri_hash **out, peri_error *err) {
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    *out = NULL;
    if (c == NULL || EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(c);
        return peri_fail(err, PERI_E_OTHER, "OpenSSL: cannot compute a SHA-256");
    }
    *out = (peri_hash *)c;
    return PERI_OK;
}

peri_status peri_hash_add(peri_hash *h, const void *data, size_t size, peri_error *err) {
    if (EVP_DigestUpdate((EVP_MD_CTX *)h, data, size) == 1) return PERI_OK;
    return peri_fail(err, PERI_E_OTHER, "OpenSSL: cannot compute a SHA-256");
}

peri_status peri_hash_end(peri_hash *h, char text[PERI_SHA256_TEXT], peri_error *err) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    text[0] = 0;
    if (EVP_DigestFinal_ex((EVP_MD_CTX *)h, digest, &n) != 1 || n != 32)
        return peri_fail(err, PERI_E_OTHER, "OpenSSL: cannot compute a SHA-256");
    write_hex(digest, text);
    return PERI_OK;
}

void peri_hash_free(peri_hash *h) {
    EVP_MD_CTX_free((EVP_MD_CTX *)h);
}
