/* SPDX-License-Identifier: MIT
 *
 * memory.c - buffers, and the step's block on the device.
 *
 * One stream: what is written, computed, copied and read takes effect in the order of the calls.
 * Reads and writes wait; a write does, because its source may be reused.  The step is copied from
 * pinned memory of our own and does not wait. */
#include <string.h>

#include "cu.h"

static int32_t enter(peri_dev *d, peri_error *e) {
    CUresult rc = d->cu->cuCtxSetCurrent(d->context);
    return rc == CUDA_SUCCESS ? PERI_OK : cu_fail(d->cu, e, "cuCtxSetCurrent", rc);
}

static int32_t wait_all(peri_dev *d, const char *what, peri_error *e) {
    CUresult rc = d->cu->cuStreamSynchronize(d->stream);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, what, rc);
    d->is_step_under_way = false;
    return PERI_OK;
}

int32_t cu_buf_alloc(peri_dev *d, uint64_t bytes, uint32_t usage, peri_buf **out, peri_error *e) {
    size_t n_free = 0, n_all = 0;
    CUdeviceptr at;
    (void)usage;
    *out = NULL;
    int32_t st = enter(d, e);
    if (st) return st;
    if (bytes == 0) bytes = 1;
    peri_buf *b = d->host->alloc(sizeof *b, _Alignof(peri_buf), -1);
    if (!b) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a buffer's handle");
    CUresult rc = d->cu->cuMemAlloc(&at, (size_t)bytes);
    if (rc == CUDA_SUCCESS) {
        *b = (peri_buf){at, bytes};
        *out = b;
        return PERI_OK;
    }
    d->host->free(b);
    st = cu_fail(d->cu, e, "cuMemAlloc", rc);
    if (st != PERI_E_NOMEM || d->cu->cuMemGetInfo(&n_free, &n_all) != CUDA_SUCCESS) return st;
    return peri_plugin_fail(
        e, st, "cuMemAlloc of %llu bytes: CUDA_ERROR_OUT_OF_MEMORY (%d), %llu of %llu MiB are free",
        (unsigned long long)bytes, rc, (unsigned long long)n_free >> 20,
        (unsigned long long)n_all >> 20);
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
    st = enter(d, e);
    if (st) return st;
    CUresult rc = d->cu->cuMemcpyHtoDAsync(b->at + off, src, (size_t)bytes, d->stream);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "cuMemcpyHtoDAsync", rc);
    return wait_all(d, "writing memory", e);
}

int32_t cu_buf_read(peri_dev *d, peri_buf *b, uint64_t off, void *dst, uint64_t bytes,
                    peri_error *e) {
    int32_t st = check_range(b, off, bytes, e);
    if (!st) st = enter(d, e);
    if (st) return st;
    CUresult rc = CUDA_SUCCESS;
    if (bytes) rc = d->cu->cuMemcpyDtoHAsync(dst, b->at + off, (size_t)bytes, d->stream);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "cuMemcpyDtoHAsync", rc);
    return wait_all(d, "waiting for the operations before a read", e);
}

int32_t cu_buf_copy(peri_dev *d, peri_buf *dst, uint64_t dst_off, peri_buf *src, uint64_t src_off,
                    uint64_t bytes, peri_error *e) {
    int32_t st = check_range(dst, dst_off, bytes, e);
    if (!st) st = check_range(src, src_off, bytes, e);
    if (st || bytes == 0) return st;
    st = enter(d, e);
    if (st) return st;
    CUresult rc =
        d->cu->cuMemcpyDtoDAsync(dst->at + dst_off, src->at + src_off, (size_t)bytes, d->stream);
    return rc == CUDA_SUCCESS ? PERI_OK : cu_fail(d->cu, e, "cuMemcpyDtoDAsync", rc);
}

/* ---- the step ---------------------------------------------------------------------------------
 */

void cu_step_free(peri_dev *d) {
    if (d->step) d->cu->cuMemFree(d->step);
    if (d->step_now) d->cu->cuMemFreeHost(d->step_now);
    d->step = 0;
    d->step_now = NULL;
    d->step_room = d->step_bytes = 0;
}

/* Room for a step of n bytes, twice what is needed now: steps grow with the context.  The old block
 * is free of readers, because freeing device memory waits for them. */
static int32_t grow_step(peri_dev *d, uint64_t n, peri_error *e) {
    uint64_t room = n * 2 < 65536 ? 65536 : n * 2;
    void *now = NULL;
    cu_step_free(d);
    CUresult rc = d->cu->cuMemHostAlloc(&now, (size_t)room, 0);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "pinned memory for the step", rc);
    d->step_now = now;
    rc = d->cu->cuMemAlloc(&d->step, (size_t)room);
    if (rc != CUDA_SUCCESS) {
        d->step = 0;
        cu_step_free(d);
        return cu_fail(d->cu, e, "device memory for the step", rc);
    }
    d->step_room = room;
    return PERI_OK;
}

int32_t cu_send_step(peri_dev *d, const peri_step *s, peri_error *e) {
    uint64_t n = s->bytes;
    int32_t st = enter(d, e);
    if (st) return st;
    if (n == d->step_bytes && memcmp(d->step_now, s, (size_t)n) == 0) return PERI_OK;
    if (d->is_step_under_way) st = wait_all(d, "waiting for the step before", e);
    if (!st && n > d->step_room) st = grow_step(d, n, e);
    if (st) return st;
    memcpy(d->step_now, s, (size_t)n);
    d->step_bytes = 0; /* unknown, should the copy fail */
    CUresult rc = d->cu->cuMemcpyHtoDAsync(d->step, d->step_now, (size_t)n, d->stream);
    if (rc != CUDA_SUCCESS) return cu_fail(d->cu, e, "writing the step", rc);
    d->is_step_under_way = true;
    d->step_bytes = n;
    return PERI_OK;
}
