/* SPDX-License-Identifier: MIT
 *
 * memory.c - see memory.h. */
#include "run/memory.h"

#include <string.h>

#include "base/alloc.h"
#include "base/status.h"

#include "base/compiler.h"

static bool is_host(const peri_backend *d) {
    return (d->info.flags & PERI_DEV_HOST_MEM) != 0;
}

/* What a plugin's call said, in our words; a call that broke rule R3 is an error too. */
static peri_status failed(const peri_backend *d, const char *what, int32_t st, peri_error *e,
                          peri_error *err) {
    e->text[sizeof e->text - 1] = 0;
    if (st > 0) st = PERI_E_OTHER;
    return peri_fail(err, st, "device %s: %s: %s", d->info.name, what,
                     e->text[0] ? e->text : peri_status_text(st));
}

peri_status peri_memory_check(const peri_backend *d, peri_error *err) {
    const peri_plugin *p = &d->api;
    const char *missing = is_host(d)      ? NULL
                          : !p->buf_alloc ? "buf_alloc"
                          : !p->buf_free  ? "buf_free"
                          : !p->buf_write ? "buf_write"
                          : !p->buf_read  ? "buf_read"
                          : !p->buf_copy  ? "buf_copy"
                                          : NULL;
    if (!missing) return PERI_OK;
    return peri_fail(err, PERI_E_UNSUPPORTED,
                     "device %s: it has memory of its own, and its plugin has no %s", d->info.name,
                     missing);
}

peri_status peri_memory_alloc(peri_backend *d, uint64_t bytes, uint32_t usage, peri_memory *out,
                              peri_error *err) {
    peri_error e = {0};
    *out = (peri_memory){.bytes = bytes};
    if (!is_host(d)) {
        int32_t st = d->api.buf_alloc(d->dev, bytes, usage, &out->buf, &e);
        if (!st && out->buf) return PERI_OK;
        *out = (peri_memory){0};
        return failed(d, "allocating memory", st ? st : PERI_E_ABI, &e, err);
    }
    out->host = bytes <= SIZE_MAX ? peri_alloc_large((size_t)bytes) : NULL;
    out->buf = out->host;
    if (out->host) return PERI_OK;
    *out = (peri_memory){0};
    return peri_fail(err, PERI_E_NOMEM, "out of memory: %llu bytes", (unsigned long long)bytes);
}

peri_status peri_memory_from(peri_backend *d, const void *data, uint64_t bytes, peri_memory *out,
                             peri_error *err) {
    peri_error e = {0};
    *out = (peri_memory){.bytes = bytes, .is_borrowed = true};
    if (is_host(d)) {
        out->host = (void *)(uintptr_t)data;
        out->buf = out->host;
        return PERI_OK;
    }
    int32_t st = PERI_E_UNSUPPORTED;
    if (d->api.buf_import) st = d->api.buf_import(d->dev, data, bytes, &out->buf, &e);
    if (!st && out->buf) return PERI_OK;
    *out = (peri_memory){0};
    if (st != PERI_E_UNSUPPORTED)
        return failed(d, "using host memory", st ? st : PERI_E_ABI, &e, err);
    peri_status status = peri_memory_alloc(d, bytes, PERI_BUF_WEIGHT, out, err);
    if (!status) status = peri_memory_write(d, out, 0, data, bytes, err);
    if (status) peri_memory_free(d, out);
    return status;
}

peri_memory peri_memory_part(const peri_memory *whole, uint64_t off, uint64_t bytes) {
    char *host = (char *)whole->host + off;
    return (peri_memory){
        .buf = (peri_buf *)host, .host = host, .bytes = bytes, .is_borrowed = true};
}

void peri_memory_free(peri_backend *d, peri_memory *m) {
    if (m->buf && !is_host(d))
        d->api.buf_free(d->dev, m->buf);
    else if (!m->is_borrowed)
        peri_free(m->host);
    *m = (peri_memory){0};
}

peri_status peri_memory_write(peri_backend *d, const peri_memory *m, uint64_t off, const void *src,
                              uint64_t bytes, peri_error *err) {
    peri_error e = {0};
    if (m->host) {
        memcpy((char *)m->host + off, src, (size_t)bytes);
        return PERI_OK;
    }
    int32_t st = d->api.buf_write(d->dev, m->buf, off, src, bytes, &e);
    return st ? failed(d, "writing memory", st, &e, err) : PERI_OK;
}

peri_status peri_memory_read(peri_backend *d, const peri_memory *m, uint64_t off, void *dst,
                             uint64_t bytes, peri_error *err) {
    peri_error e = {0};
    if (m->host) {
        memcpy(dst, (const char *)m->host + off, (size_t)bytes);
        return PERI_OK;
    }
    int32_t st = d->api.buf_read(d->dev, m->buf, off, dst, bytes, &e);
    return st ? failed(d, "reading memory", st, &e, err) : PERI_OK;
}

peri_status peri_memory_copy(peri_backend *d, const peri_memory *m, uint64_t to, uint64_t from,
                             uint64_t bytes, peri_error *err) {
    peri_error e = {0};
    if (m->host) {
        memcpy((char *)m->host + to, (const char *)m->host + from, (size_t)bytes);
        return PERI_OK;
    }
    int32_t st = d->api.buf_copy(d->dev, m->buf, to, m->buf, from, bytes, &e);
    return st ? failed(d, "copying memory", st, &e, err) : PERI_OK;
}
