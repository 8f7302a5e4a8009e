/* SPDX-License-Identifier: MIT
 *
 * memory.c - buffers.
 *
 * One stream: what is written, computed, copied and read takes effect in the order of the calls.
 * Reads and writes wait; a write does, because its source may be reused.
 *
 * Between two steps stands a short read, of lists of tokens, and the device idles from its end to
 * the next step's block: a trace of an H200 with driver 580 shows 14 us behind a read of 1 KB, 21
 * us behind 8 KB and 140 us behind 32 KB, and the core's share of it does not grow like that (3, 6
 * and 25 us on a processor of that family).  A driver copies to memory it has not pinned by way of
 * memory of its own, as it sees fit.  So short reads arrive in pinned memory of ours; longer ones,
 * where bandwidth counts, are left to the driver.  What that gains by itself was not measured;
 * with it, and without a tracer, 33 us pass between two steps of one sequence and 35 of 32. */
#include <stdio.h>
#include <string.h>

#include "cu.h"

int32_t cu_enter(peri_dev *d, peri_error *e) {
    CUresult rc = d->cu->cuCtxSetCurrent(d->context);
    return rc == CUDA_SUCCESS ? PERI_OK : cu_fail(d->cu, e, "cuCtxSetCurrent", rc);
}

int32_t cu_wait(peri_dev *d, const char *what, peri_error *e) {
    CUresult rc = d->cu->cuStreamSynchronize(d->stream);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, what, rc);
    d->n_wait++;
    return PERI_OK;
}

static int32_t no_memory(peri_dev *d, uint64_t bytes, CUresult rc, peri_error *e) {
    size_t n_free = 0, n_all = 0;
    int32_t st = cu_fail(d->cu, e, "cuMemAlloc", rc);
    if (st != PERI_E_NOMEM || d->cu->cuMemGetInfo(&n_free, &n_all) != CUDA_SUCCESS) return st;
    return peri_plugin_fail(
        e, st, "cuMemAlloc of %llu bytes: CUDA_ERROR_OUT_OF_MEMORY (%d), %llu of %llu MiB are free",
        (unsigned long long)bytes, rc, (unsigned long long)n_free >> 20,
        (unsigned long long)n_all >> 20);
}

int32_t cu_buf_alloc(peri_dev *d, uint64_t bytes, uint32_t usage, peri_buf **out, peri_error *e) {
    CUdeviceptr at;
    (void)usage;
    *out = NULL;
    int32_t st = cu_enter(d, e);
    if (st) return st;
    if (bytes == 0) bytes = 1;
    peri_buf *b = d->host->alloc(sizeof *b, _Alignof(peri_buf), -1);
    if (!b) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a buffer's handle");
    /* whole pieces of 16 bytes, as the last ones are copied by kernels */
    CUresult rc = d->cu->cuMemAlloc(&at, ((size_t)bytes + 15) / 16 * 16);
    if (rc == CUDA_SUCCESS) {
        *b = (peri_buf){at, bytes};
        *out = b;
        return PERI_OK;
    }
    d->host->free(b);
    return no_memory(d, bytes, rc, e);
}

void cu_buf_free(peri_dev *d, peri_buf *b) {
    if (!b) return;
    d->cu->cuCtxSetCurrent(d->context);
    d->cu->cuMemFree(b->at);
    d->host->free(b);
}

static int32_t check_range(const peri_buf *b, uint64_t off, uint64_t bytes, peri_error *e) {
    if (off <= b->bytes && bytes <= b->bytes - off) return PERI_OK;
    return peri_plugin_fail(e, PERI_E_RANGE, "bytes %llu to %llu of a buffer of %llu",
                            (unsigned long long)off, (unsigned long long)(off + bytes),
                            (unsigned long long)b->bytes);
}

int32_t cu_buf_write(peri_dev *d, peri_buf *b, uint64_t off, const void *src, uint64_t bytes,
                     peri_error *e) {
    int32_t st = check_range(b, off, bytes, e);
    if (st || bytes == 0) return st;
    st = cu_enter(d, e);
    if (st) return st;
    CUresult rc = d->cu->cuMemcpyHtoDAsync(b->at + off, src, (size_t)bytes, d->stream);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "cuMemcpyHtoDAsync", rc);
    return cu_wait(d, "writing memory", e);
}

int32_t cu_buf_read(peri_dev *d, peri_buf *b, uint64_t off, void *dst, uint64_t bytes,
                    peri_error *e) {
    int32_t st = check_range(b, off, bytes, e);
    if (!st) st = cu_enter(d, e);
    if (st) return st;
    CUresult rc = CUDA_SUCCESS;
    void *to = bytes <= CU_LANDING ? d->landing : dst;
    if (bytes) rc = d->cu->cuMemcpyDtoHAsync(to, b->at + off, (size_t)bytes, d->stream);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "cuMemcpyDtoHAsync", rc);
    st = cu_wait(d, "waiting for the operations before a read", e);
    if (!st && bytes && to != dst) memcpy(dst, to, (size_t)bytes);
    return st;
}

int32_t cu_buf_copy(peri_dev *d, peri_buf *dst, uint64_t dst_off, peri_buf *src, uint64_t src_off,
                    uint64_t bytes, peri_error *e) {
    int32_t st = check_range(dst, dst_off, bytes, e);
    if (!st) st = check_range(src, src_off, bytes, e);
    if (st || bytes == 0) return st;
    st = cu_enter(d, e);
    if (st) return st;
    CUresult rc =
        d->cu->cuMemcpyDtoDAsync(dst->at + dst_off, src->at + src_off, (size_t)bytes, d->stream);
    return rc == CUDA_SUCCESS ? PERI_OK : cu_fail(d->cu, e, "cuMemcpyDtoDAsync", rc);
}

int32_t cu_scratch_grow(peri_dev *d, uint64_t bytes, peri_error *e) {
    CUdeviceptr at;
    if (bytes <= d->scratch_bytes) return PERI_OK;
    CUresult rc = d->cu->cuMemAlloc(&at, (size_t)bytes);
    if (rc != CUDA_SUCCESS) return no_memory(d, bytes, rc, e);
    int32_t st = cu_wait(d, "waiting for readers of the old scratch", e);
    if (st) {
        d->cu->cuMemFree(at);
        return st;
    }
    if (d->scratch) d->cu->cuMemFree(d->scratch);
    d->scratch = at;
    d->scratch_bytes = bytes;
    return PERI_OK;
}

void cu_scratch_warn(peri_dev *d, const char *what, uint64_t bytes, const peri_error *why) {
    char text[400];
    snprintf(text, sizeof text, "cuda: less scratch than %llu KiB, %s: %s",
             (unsigned long long)bytes >> 10, what, why->text);
    d->host->log(2, text);
}
