/* SPDX-License-Identifier: MIT
 *
 * memory.c - buffers, and the step's block on the device.
 *
 * One in-order queue: what is written, computed, copied and read takes effect in the order of the
 * calls.  Only reads and writes wait; a write does, because its source may be reused. */
#include <string.h>

#include "ocl.h"

static int32_t wrap(peri_dev *d, cl_mem mem, uint64_t bytes, peri_buf **out, peri_error *e) {
    peri_buf *b = d->host->alloc(sizeof *b, _Alignof(peri_buf), -1);
    if (!b) {
        d->cl->clReleaseMemObject(mem);
        return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a buffer's handle");
    }
    *b = (peri_buf){mem, bytes};
    *out = b;
    return PERI_OK;
}

int32_t ocl_buf_alloc(peri_dev *d, uint64_t bytes, uint32_t usage, peri_buf **out, peri_error *e) {
    cl_int rc;
    (void)usage;
    *out = NULL;
    if (bytes == 0) bytes = 1;
    if (bytes > d->max_alloc)
        return peri_plugin_fail(e, PERI_E_NOMEM,
                                "a buffer of %llu bytes is wanted, the device's largest has %llu",
                                (unsigned long long)bytes, (unsigned long long)d->max_alloc);
    cl_mem mem = d->cl->clCreateBuffer(d->context, CL_MEM_READ_WRITE, (size_t)bytes, NULL, &rc);
    if (rc == CL_SUCCESS) return wrap(d, mem, bytes, out, e);
    return peri_plugin_fail(e, ocl_fail(e, "clCreateBuffer", rc), "%llu bytes: %s (%d)",
                            (unsigned long long)bytes, ocl_error_name(rc), (int)rc);
}

int32_t ocl_buf_import(peri_dev *d, const void *host, uint64_t bytes, peri_buf **out,
                       peri_error *e) {
    cl_int rc;
    *out = NULL;
    if (!d->is_unified || bytes == 0 || bytes > d->max_alloc)
        return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "not in the device's reach");
    cl_mem mem = d->cl->clCreateBuffer(d->context, CL_MEM_READ_ONLY | CL_MEM_USE_HOST_PTR,
                                       (size_t)bytes, (void *)(uintptr_t)host, &rc);
    if (rc == CL_SUCCESS) return wrap(d, mem, bytes, out, e);
    ocl_fail(e, "clCreateBuffer on host memory", rc);
    return PERI_E_UNSUPPORTED; /* the driver wants another alignment, or writable pages */
}

void ocl_buf_free(peri_dev *d, peri_buf *b) {
    if (!b) return;
    d->cl->clReleaseMemObject(b->mem);
    d->host->free(b);
}

static int32_t check_range(const peri_buf *b, uint64_t off, uint64_t bytes, peri_error *e) {
    if (off <= b->bytes && bytes <= b->bytes - off) return PERI_OK;
    return peri_plugin_fail(e, PERI_E_RANGE, "bytes %llu to %llu of a buffer of %llu",
                            (unsigned long long)off, (unsigned long long)(off + bytes),
                            (unsigned long long)b->bytes);
}

int32_t ocl_buf_write(peri_dev *d, peri_buf *b, uint64_t off, const void *src, uint64_t bytes,
                      peri_error *e) {
    int32_t st = check_range(b, off, bytes, e);
    if (st || bytes == 0) return st;
    cl_int rc = d->cl->clEnqueueWriteBuffer(d->queue, b->mem, CL_TRUE, (size_t)off, (size_t)bytes,
                                            src, 0, NULL, NULL);
    return rc == CL_SUCCESS ? PERI_OK : ocl_fail(e, "clEnqueueWriteBuffer", rc);
}

int32_t ocl_buf_read(peri_dev *d, peri_buf *b, uint64_t off, void *dst, uint64_t bytes,
                     peri_error *e) {
    int32_t st = check_range(b, off, bytes, e);
    if (st) return st;
    cl_int rc = bytes ? d->cl->clEnqueueReadBuffer(d->queue, b->mem, CL_TRUE, (size_t)off,
                                                   (size_t)bytes, dst, 0, NULL, NULL)
                      : d->cl->clFinish(d->queue);
    return rc == CL_SUCCESS ? PERI_OK : ocl_fail(e, "clEnqueueReadBuffer", rc);
}

int32_t ocl_buf_copy(peri_dev *d, peri_buf *dst, uint64_t dst_off, peri_buf *src, uint64_t src_off,
                     uint64_t bytes, peri_error *e) {
    int32_t st = check_range(dst, dst_off, bytes, e);
    if (!st) st = check_range(src, src_off, bytes, e);
    if (st || bytes == 0) return st;
    cl_int rc = d->cl->clEnqueueCopyBuffer(d->queue, src->mem, dst->mem, (size_t)src_off,
                                           (size_t)dst_off, (size_t)bytes, 0, NULL, NULL);
    return rc == CL_SUCCESS ? PERI_OK : ocl_fail(e, "clEnqueueCopyBuffer", rc);
}

/* Room for a step of n bytes, twice what is needed now: steps grow with the context. */
static int32_t grow_step(peri_dev *d, uint64_t n, peri_error *e) {
    cl_int rc;
    uint64_t room = n * 2 < 65536 ? 65536 : n * 2;
    unsigned char *now = d->host->alloc((size_t)room, 64, -1);
    if (!now) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for a step");
    cl_mem mem = d->cl->clCreateBuffer(d->context, CL_MEM_READ_ONLY, (size_t)room, NULL, &rc);
    if (rc != CL_SUCCESS) {
        d->host->free(now);
        return ocl_fail(e, "a buffer for the step", rc);
    }
    if (d->step) d->cl->clReleaseMemObject(d->step);
    d->host->free(d->step_now);
    d->step = mem;
    d->step_now = now;
    d->step_room = room;
    d->step_bytes = 0;
    return PERI_OK;
}

int32_t ocl_send_step(peri_dev *d, const peri_step *s, peri_error *e) {
    uint64_t n = s->bytes;
    if (n == d->step_bytes && memcmp(d->step_now, s, (size_t)n) == 0) return PERI_OK;
    int32_t st = n > d->step_room ? grow_step(d, n, e) : PERI_OK;
    if (st) return st;
    d->step_bytes = 0; /* unknown, should the write fail */
    cl_int rc =
        d->cl->clEnqueueWriteBuffer(d->queue, d->step, CL_TRUE, 0, (size_t)n, s, 0, NULL, NULL);
    if (rc != CL_SUCCESS) return ocl_fail(e, "writing the step", rc);
    memcpy(d->step_now, s, (size_t)n);
    d->step_bytes = n;
    return PERI_OK;
}
