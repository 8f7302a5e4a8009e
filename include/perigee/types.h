/* SPDX-License-Identifier: MIT
 *
 * types.h - what every Perigee interface shares: status codes, the error a caller owns, and string
 * views.
 *
 * Whatever can fail returns peri_status: 0 on success, negative otherwise.  The last parameter of
 * such a function is `peri_error *err`; it may be NULL, it usually lives on the caller's stack, and
 * it is written only on failure.  Its text names the thing, the place, what was found and what was
 * expected.  There is no hidden last-error and nothing to free.
 *
 * C11, self-contained, usable from C++. */
#ifndef PERIGEE_TYPES_H
#define PERIGEE_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Marks what libperigee.so exports. */
#define PERI_API __attribute__((visibility("default")))

/* X(NAME, code, sentence).  Codes are part of the plugin ABI: append only, never renumber. */
#define PERI_STATUS_LIST(X)                                                                        \
    X(UNSUPPORTED, -1, "not supported")                                                            \
    X(NOMEM, -2, "out of memory")                                                                  \
    X(INVALID, -3, "invalid argument")                                                             \
    X(NO_DRIVER, -4, "driver or library missing")                                                  \
    X(NO_DEVICE, -5, "no such device")                                                             \
    X(DEVICE_LOST, -6, "device lost")                                                              \
    X(TIMEOUT, -7, "timed out")                                                                    \
    X(ABI, -8, "plugin ABI mismatch")                                                              \
    X(CORRUPT, -9, "malformed data")                                                               \
    X(IO, -10, "input/output error")                                                               \
    X(NOT_FOUND, -11, "not found")                                                                 \
    X(RANGE, -12, "out of range")                                                                  \
    X(CANCELLED, -13, "cancelled")                                                                 \
    X(POLICY_ERROR, -14, "a sampling policy failed")                                               \
    X(OTHER, -99, "failed")

typedef int32_t peri_status;

enum {
    PERI_OK = 0,
#define PERI_STATUS_ENUM(name, code, text) PERI_E_##name = (code),
    PERI_STATUS_LIST(PERI_STATUS_ENUM)
#undef PERI_STATUS_ENUM
};

/* Exported by libperigee: "NOMEM" and "out of memory" for -2; "OK" and "success" for 0; "?" for a
 * number that is no code. */
PERI_API const char *peri_status_name(peri_status code);
PERI_API const char *peri_status_text(peri_status code);

/* An error: a PERI_E_* code and a NUL-terminated UTF-8 sentence without a trailing full stop.
 * Never grows; 256 bytes; may be copied. */
typedef struct peri_error {
    int32_t code;
    char text[252];
} peri_error;

/* A borrowed run of bytes, not NUL-terminated; `data` may be NULL when `size` is 0. */
typedef struct peri_str {
    const char *data;
    size_t size;
} peri_str;

#ifdef __cplusplus
}
#endif
#endif
