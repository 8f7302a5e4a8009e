/* SPDX-License-Identifier: MIT
 *
 * kit_buffer.c - host memory and its likeness on a device with memory of its own, and whether that
 * memory keeps what is written to it. */
#include <stdio.h>
#include <string.h>

#include "check/kit.h"

#include "base/compiler.h"

static peri_backend backend(const kit_plugin *p) {
    return (peri_backend){.api = p->api, .dev = p->dev, .info = p->info, .host = &kit_host};
}

/* The plugin's own allocations for a buffer are counted only while they are made to fail. */
static void forget(int64_t n_alloc) {
    if (!kit_host_now.fail_at) kit_host_now.n_alloc = n_alloc;
}

bool kit_buffer_init(kit_plugin *p, kit_buffer *b, void *host, size_t n, uint32_t usage,
                     peri_error *e) {
    peri_backend d = backend(p);
    bool is_host = (p->info.flags & PERI_DEV_HOST_MEM) != 0;
    int64_t n_alloc = kit_host_now.n_alloc;
    *b = (kit_buffer){.host = host, .n = n};
    peri_status st = is_host || usage == PERI_BUF_WEIGHT
                         ? peri_memory_from(&d, host, n, &b->m, e)
                         : peri_memory_alloc(&d, n, usage, &b->m, e);
    forget(n_alloc);
    return st == PERI_OK && (is_host || usage == PERI_BUF_WEIGHT || kit_buffer_send(p, b, e));
}

bool kit_buffer_send(kit_plugin *p, const kit_buffer *b, peri_error *e) {
    peri_backend d = backend(p);
    return b->m.host || peri_memory_write(&d, &b->m, 0, b->host, b->n, e) == PERI_OK;
}

bool kit_buffer_fetch(kit_plugin *p, const kit_buffer *b, peri_error *e) {
    peri_backend d = backend(p);
    return b->m.host || peri_memory_read(&d, &b->m, 0, b->host, b->n, e) == PERI_OK;
}

void kit_buffer_fini(kit_plugin *p, kit_buffer *b) {
    peri_backend d = backend(p);
    if (b->m.bytes) peri_memory_free(&d, &b->m);
}

/* ---- does memory keep what is written? ---------------------------------------------------------
 */

enum { N = 70001 }; /* more than 16 bits count */

static bool is_kept(const unsigned char *got, const unsigned char *want, const char *what) {
    for (int i = 0; i < N; i++) {
        if (got[i] == want[i]) continue;
        kit_find(NULL, "memory: %s: byte %d of %d: found 0x%02x, expected 0x%02x", what, i, N,
                 got[i], want[i]);
        return false;
    }
    return true;
}

/* The same on the device and in want[]: offsets and sizes that are no multiples of anything. */
static bool write_and_copy(peri_backend *d, const peri_memory *m, unsigned char *want,
                           peri_error *e) {
    static const int write_at[][2] = {{0, N},      {1, 1},     {3, 13}, {500, 333},
                                      {65530, 20}, {N - 1, 1}, {7, 0}};
    static const int copy_at[][3] = {
        {0, 700, 300}, {333, 1, 17}, {N - 5, 100, 5}, {0, 999, 1}, {2, 66000, 3001}};
    for (size_t i = 0; i < sizeof write_at / sizeof write_at[0]; i++) {
        static unsigned char part[N];
        int at = write_at[i][0], n = write_at[i][1];
        for (int k = 0; k < n; k++)
            part[k] = (unsigned char)kit_pick(i + 1, (uint64_t)k, 256);
        if (peri_memory_write(d, m, (uint64_t)at, part, (uint64_t)n, e)) return false;
        memset(part, 0, sizeof part); /* the source may be reused at once */
        for (int k = 0; k < n; k++)
            want[at + k] = (unsigned char)kit_pick(i + 1, (uint64_t)k, 256);
    }
    for (size_t i = 0; i < sizeof copy_at / sizeof copy_at[0]; i++) {
        int to = copy_at[i][0], from = copy_at[i][1], n = copy_at[i][2];
        if (peri_memory_copy(d, m, (uint64_t)to, (uint64_t)from, (uint64_t)n, e)) return false;
        memcpy(want + to, want + from, (size_t)n);
    }
    return true;
}

void kit_check_buffers(kit_plugin *p) {
    peri_backend d = backend(p);
    peri_memory m;
    peri_error e = {0};
    static unsigned char want[N], got[N];
    if (p->info.flags & PERI_DEV_HOST_MEM) return;
    kit_place("buf_alloc, buf_write, buf_copy and buf_read", NULL);
    kit_count();
    if (peri_memory_alloc(&d, N, PERI_BUF_ARENA, &m, &e)) {
        kit_find(NULL, "memory: %s", e.text);
        return;
    }
    if (!write_and_copy(&d, &m, want, &e) || peri_memory_read(&d, &m, 0, got, N, &e))
        kit_find(NULL, "memory: %s", e.text);
    else if (is_kept(got, want, "read whole") && (peri_memory_read(&d, &m, 501, got + 501, 7, &e) ||
                                                  peri_memory_read(&d, &m, 9, got + 9, 0, &e)))
        kit_find(NULL, "memory: %s", e.text);
    else
        is_kept(got, want, "read in part");
    peri_memory_free(&d, &m);
}
