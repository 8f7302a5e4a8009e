/* SPDX-License-Identifier: MIT
 *
 * alloc.c - the process-wide allocator table and the checked calls in front of it.
 *
 * Every size product is checked here, once; no request above PTRDIFF_MAX reaches the table. */
#define PERI_WANT_LIBC_HEAP
#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/compiler.h"

enum {
    MALLOC_ALIGN = 16,     /* bytes; what glibc's malloc gives on 64-bit machines */
    LINE = 64,             /* bytes of a cache line */
    HUGE_PAGE = 2 << 20,   /* bytes; x86-64, and aarch64 with pages of 4 KiB */
    LARGE_BYTES = 4 << 20, /* of two huge pages and more */
};

static void *libc_alloc(void *user, size_t bytes, size_t align) {
    (void)user;
    if (align <= MALLOC_ALIGN) return malloc(bytes);
    if (bytes > (size_t)PTRDIFF_MAX - align) return NULL;
    return aligned_alloc(align, (bytes + align - 1) & ~(align - 1));
}

static void *libc_resize(void *user, void *p, size_t bytes) {
    (void)user;
    return realloc(p, bytes);
}

static void libc_free(void *user, void *p) {
    (void)user;
    free(p);
}

static const peri_allocator libc_allocator = {libc_alloc, libc_resize, libc_free, NULL};
static peri_allocator current = {libc_alloc, libc_resize, libc_free, NULL};

void peri_allocator_set(const peri_allocator *a) {
    current = a != NULL ? *a : libc_allocator;
}

/* n * element_bytes, at least 1; false when it does not fit. */
static int product(size_t n, size_t element_bytes, size_t *out) {
    size_t bytes;
    if (__builtin_mul_overflow(n, element_bytes, &bytes) || bytes > (size_t)PTRDIFF_MAX) return 0;
    *out = bytes == 0 ? 1 : bytes;
    return 1;
}

void *peri_alloc_aligned(size_t bytes, size_t align) {
    if (!product(1, bytes, &bytes) || align == 0 || (align & (align - 1)) != 0) return NULL;
    return current.alloc(current.user, bytes, align < MALLOC_ALIGN ? MALLOC_ALIGN : align);
}

void *peri_alloc_large(size_t bytes) {
    if (bytes < LARGE_BYTES) return peri_alloc_aligned(bytes, LINE);
    void *p = peri_alloc_aligned(bytes, HUGE_PAGE);
    if (p != NULL) madvise(p, bytes & ~(size_t)(HUGE_PAGE - 1), MADV_HUGEPAGE); /* or as it is */
    return p;
}

void *peri_alloc(size_t bytes) {
    return peri_alloc_aligned(bytes, MALLOC_ALIGN);
}

void *peri_alloc_array(size_t n, size_t element_bytes) {
    size_t bytes;
    return product(n, element_bytes, &bytes) ? peri_alloc(bytes) : NULL;
}

void *peri_calloc(size_t n, size_t element_bytes) {
    size_t bytes;
    if (!product(n, element_bytes, &bytes)) return NULL;
    void *p = peri_alloc(bytes);
    if (p != NULL) memset(p, 0, bytes);
    return p;
}

void *peri_resize_array(void *p, size_t n, size_t element_bytes) {
    size_t bytes;
    return product(n, element_bytes, &bytes) ? current.resize(current.user, p, bytes) : NULL;
}

void peri_free(void *p) {
    if (p != NULL) current.free(current.user, p);
}

char *peri_str_dup(peri_str s) {
    if (s.size == SIZE_MAX) return NULL;
    char *p = peri_alloc(s.size + 1);
    if (p == NULL) return NULL;
    if (s.size != 0) memcpy(p, s.data, s.size);
    p[s.size] = 0;
    return p;
}

char *peri_strf(const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n < 0 ? NULL : peri_alloc((size_t)n + 1);
    if (p != NULL) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}
