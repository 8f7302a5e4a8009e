/* SPDX-License-Identifier: MIT
 *
 * libcuda.cc - a stand-in for the driver, as libcuda.so.1: the functions of driver.def on host
 * memory, with the plugin's kernels compiled by cuda_shim.h.
 *
 * Work is queued and done when the stream is waited for, so that what does not wait is found out.
 * Copies are checked against the buffers there are; a fresh buffer holds NaN.  A buffer that is
 * still there when the context goes is told on stderr, which plugin-check calls a finding.
 *
 * FAKE_CUDA in the environment, words between commas, spoils it:
 *   init=CODE  module=CODE  what cuInit and cuModuleLoadData return      crash, hang  in cuInit
 *   missing=NAME   cuGetProcAddress does not know it                     devices=N  cc=75  mem=MIB
 *   alloc=N    the N-th cuMemAlloc of the process and all later ones find no memory
 *   launch=N   the N-th kernel is the end of the device: CUDA_ERROR_LAUNCH_FAILED from then on
 *   capture=CODE  instantiate=CODE  what cuStreamEndCapture and cuGraphInstantiateWithFlags return
 *   mutant     kernels of mutants.cu in place of those they are named for
 *   kernels    stderr says, when the context goes, how many launches of each kernel were asked for
 *   count      stderr says, when the context goes, how many graphs were made and launched, how many
 *              kernels ran outside of one, and how many began before the one before had ended; and
 *              how many reads went to memory that is pinned and to memory that is not */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cuda_shim.h"
extern "C" {
#include "cuda_min.h"
}

#define EXPORT extern "C" __attribute__((visibility("default")))

static const CUresult INVALID_VALUE = 1, NOT_INITIALIZED = 3, INVALID_IMAGE = 200,
                      INVALID_CONTEXT = 201, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900,
                      CAPTURE_INVALIDATED = 901;

struct CUctx_st {
    int n_user;
};
struct CUmod_st {
    int unused;
};
struct CUfunc_st {
    const shim_kernel *kernel;
};
/* A copy, or a kernel. */
struct work {
    std::function<void()> copy;
    const shim_kernel *kernel;
    std::vector<char> args;
    unsigned n_block;
    bool is_ahead; /* may begin before what is before it has ended */
};
typedef std::vector<work> works;
struct CUstream_st {
    works queue, record;
    bool is_capturing, is_spoilt; /* spoilt: something was called that a recording forbids */
};
struct CUgraph_st {
    works record;
};
struct CUgraphExec_st {
    works record;
};

static std::recursive_mutex lock; /* guards all below but `current` */
static std::map<CUdeviceptr, size_t> buffers;
static std::map<void *, size_t> pinned;
static int n_read_pinned, n_read_other;
static std::map<const shim_kernel *, CUfunc_st> functions;
static CUctx_st context;
static CUresult lost; /* CUDA_SUCCESS while the device lives */
static bool is_ready;
static int n_alloc, n_launch;
static int n_graph, n_graph_launch, n_alone, n_early;
static std::map<std::string, int> n_of_kernel;
static thread_local CUcontext current;

/* ---- FAKE_CUDA ---- */

/* The text behind "key=", "" for a word without it, NULL when it is not there. */
static const char *setting(const char *key) {
    static char text[64];
    const char *p = getenv("FAKE_CUDA");
    size_t n = strlen(key);
    while (p && *p) {
        size_t word = strcspn(p, ",");
        if (strncmp(p, key, n) == 0 && (word == n || p[n] == '=')) {
            const char *value = word == n ? "" : p + n + 1;
            snprintf(text, sizeof text, "%.*s", word == n ? 0 : (int)(word - n - 1), value);
            return text;
        }
        p += word + (p[word] == ',');
    }
    return NULL;
}

static long number(const char *key, long otherwise) {
    const char *text = setting(key);
    return text ? strtol(text, NULL, 10) : otherwise;
}

/* ---- what every call asks ---- */

static CUresult state() {
    return !is_ready ? NOT_INITIALIZED : !current ? INVALID_CONTEXT : lost;
}

/* Does a buffer hold these bytes? */
static bool is_inside(CUdeviceptr at, size_t bytes) {
    auto b = buffers.upper_bound(at);
    if (b == buffers.begin()) return false;
    --b;
    return at - b->first <= b->second && bytes <= b->second - (at - b->first);
}

static void *memory(CUdeviceptr at) {
    return (void *)(uintptr_t)at;
}

static CUstream the_stream;

/* Is a recording under way?  Then what waits or allocates spoils it. */
static bool spoils_capture() {
    if (!the_stream || !the_stream->is_capturing) return false;
    the_stream->is_spoilt = true;
    return true;
}

/* Does the launch end the device? */
static bool is_last_launch() {
    long last = number("launch", 0);
    if (!last || ++n_launch < last) return false;
    lost = CUDA_ERROR_LAUNCH_FAILED;
    return true;
}

/* A kernel that may begin early does, as far as it may, before the kernel before it runs: so what
 * it reads too early is what was there before.  But two of one kernel share their memory, and
 * cannot. */
static CUresult drain() {
    for (CUstream s = the_stream; s && !s->queue.empty();) {
        works queue;
        queue.swap(s->queue);
        shim_begun *begun = NULL;
        for (size_t i = 0; i < queue.size() && lost == CUDA_SUCCESS; i++) {
            work &now = queue[i];
            work *next = i + 1 < queue.size() ? &queue[i + 1] : NULL;
            shim_begun *early = NULL;
            if (!now.kernel) {
                now.copy();
                continue;
            }
            if (is_last_launch()) break;
            if (next && next->kernel && next->is_ahead && next->kernel != now.kernel) {
                early = shim_begin(next->kernel, next->args.data(), next->n_block);
                n_early++;
            }
            if (begun)
                shim_end(begun);
            else
                shim_launch(now.kernel, now.args.data(), now.n_block);
            begun = early;
        }
        if (begun) shim_drop(begun);
    }
    return lost;
}

/* ---- start and devices ---- */

static CUresult cuGetErrorName(CUresult code, const char **name) {
    static const std::map<CUresult, const char *> names = {
        {1, "CUDA_ERROR_INVALID_VALUE"},
        {2, "CUDA_ERROR_OUT_OF_MEMORY"},
        {3, "CUDA_ERROR_NOT_INITIALIZED"},
        {100, "CUDA_ERROR_NO_DEVICE"},
        {200, "CUDA_ERROR_INVALID_IMAGE"},
        {201, "CUDA_ERROR_INVALID_CONTEXT"},
        {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
        {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"},
        {500, "CUDA_ERROR_NOT_FOUND"},
        {719, "CUDA_ERROR_LAUNCH_FAILED"},
        {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
        {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
        {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
        {999, "CUDA_ERROR_UNKNOWN"},
    };
    auto found = names.find(code);
    if (found == names.end()) return INVALID_VALUE;
    *name = found->second;
    return CUDA_SUCCESS;
}

static CUresult cuInit(unsigned) {
    if (setting("crash")) abort();
    while (setting("hang"))
        pause();
    CUresult rc = (CUresult)number("init", 0);
    is_ready = rc == CUDA_SUCCESS;
    return rc;
}

static CUresult cuDriverGetVersion(int *version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

static CUresult cuDeviceGetCount(int *n) {
    *n = (int)number("devices", 1);
    return is_ready ? CUDA_SUCCESS : NOT_INITIALIZED;
}

static CUresult cuDeviceGet(CUdevice *out, int index) {
    *out = index;
    return index >= 0 && index < number("devices", 1) ? CUDA_SUCCESS : INVALID_VALUE;
}

static CUresult cuDeviceGetName(char *out, int room, CUdevice d) {
    snprintf(out, (size_t)room, "Stand-in %d", d);
    return CUDA_SUCCESS;
}

static CUresult cuDeviceGetAttribute(int *out, int attribute, CUdevice d) {
    long cc = number("cc", 90);
    switch (attribute) {
    case CU_ATTR_MULTIPROCESSOR_COUNT:
        *out = 4;
        return CUDA_SUCCESS;
    case CU_ATTR_MEMORY_CLOCK_RATE:
        *out = 2000000;
        return CUDA_SUCCESS;
    case CU_ATTR_GLOBAL_MEMORY_BUS_WIDTH:
        *out = 4096;
        return CUDA_SUCCESS;
    case CU_ATTR_PCI_BUS_ID:
        *out = 0x3b + d;
        return CUDA_SUCCESS;
    case CU_ATTR_PCI_DEVICE_ID:
    case CU_ATTR_PCI_DOMAIN_ID:
        *out = 0;
        return CUDA_SUCCESS;
    case CU_ATTR_COMPUTE_CAPABILITY_MAJOR:
        *out = (int)cc / 10;
        return CUDA_SUCCESS;
    case CU_ATTR_COMPUTE_CAPABILITY_MINOR:
        *out = (int)cc % 10;
        return CUDA_SUCCESS;
    }
    return INVALID_VALUE;
}

static size_t all_bytes() {
    return (size_t)number("mem", 4096) << 20;
}

static CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) {
    *bytes = all_bytes();
    return CUDA_SUCCESS;
}

/* ---- context and stream ---- */

static CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice) {
    if (!is_ready) return NOT_INITIALIZED;
    context.n_user++;
    *out = &context;
    return lost;
}

static CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    if (--context.n_user > 0) return CUDA_SUCCESS;
    if (setting("count"))
        fprintf(stderr,
                "stand-in libcuda: %d reads into pinned memory, %d into other\n"
                "stand-in libcuda: %d graphs made, %d launched, %d kernels alone, %d began early\n",
                n_read_pinned, n_read_other, n_graph, n_graph_launch, n_alone, n_early);
    if (setting("kernels"))
        for (auto &k : n_of_kernel)
            fprintf(stderr, "stand-in libcuda: %d launches of %s\n", k.second, k.first.c_str());
    if (!buffers.empty() && lost == CUDA_SUCCESS)
        fprintf(stderr, "stand-in libcuda: %zu buffers are left\n", buffers.size());
    for (auto &b : buffers)
        free(memory(b.first));
    buffers.clear();
    return CUDA_SUCCESS;
}

static CUresult cuCtxSetCurrent(CUcontext c) {
    current = c;
    return CUDA_SUCCESS;
}

static CUresult cuStreamCreate(CUstream *out, unsigned) {
    if (state() != CUDA_SUCCESS) return state();
    *out = the_stream = new CUstream_st();
    return CUDA_SUCCESS;
}

static CUresult cuStreamDestroy(CUstream s) {
    delete s;
    if (the_stream == s) the_stream = NULL;
    return lost;
}

static CUresult cuStreamSynchronize(CUstream) {
    if (spoils_capture()) return CAPTURE_UNSUPPORTED;
    return state() == CUDA_SUCCESS ? drain() : state();
}

/* ---- modules ---- */

static CUresult cuModuleLoadData(CUmodule *out, const void *image) {
    static const unsigned char fatbin[] = {0x50, 0xed, 0x55, 0xba};
    CUresult rc = (CUresult)number("module", 0);
    if (state() != CUDA_SUCCESS || rc != CUDA_SUCCESS) return rc ? rc : state();
    if (memcmp(image, fatbin, sizeof fatbin) != 0 && memcmp(image, "stand-in", 8) != 0)
        return INVALID_IMAGE;
    *out = new CUmod_st();
    return CUDA_SUCCESS;
}

static CUresult cuModuleUnload(CUmodule m) {
    delete m;
    return lost;
}

static CUresult cuModuleGetFunction(CUfunction *out, CUmodule, const char *name) {
    const shim_kernel *k = NULL;
    if (setting("mutant")) k = shim_find(("peri_mutant_" + std::string(name + 5)).c_str());
    if (!k) k = shim_find(name);
    if (!k) return NOT_FOUND;
    functions[k].kernel = k;
    *out = &functions[k];
    return CUDA_SUCCESS;
}

/* ---- memory ---- */

static size_t used_bytes() {
    size_t n = 0;
    for (auto &b : buffers)
        n += b.second;
    return n;
}

static CUresult cuMemGetInfo(size_t *n_free, size_t *n_all) {
    *n_all = all_bytes();
    *n_free = *n_all - used_bytes();
    return state();
}

static CUresult cuMemAlloc(CUdeviceptr *out, size_t bytes) {
    long fail_at = number("alloc", 0);
    void *p = NULL;
    if (state() != CUDA_SUCCESS) return state();
    if (bytes == 0) return INVALID_VALUE;
    if (spoils_capture()) return CAPTURE_UNSUPPORTED;
    if ((fail_at && ++n_alloc >= fail_at) || bytes > all_bytes() - used_bytes() ||
        posix_memalign(&p, 256, bytes) != 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memset(p, 0xff, bytes);
    *out = (CUdeviceptr)(uintptr_t)p;
    buffers[*out] = bytes;
    return CUDA_SUCCESS;
}

static CUresult cuMemFree(CUdeviceptr at) {
    if (spoils_capture()) return CAPTURE_UNSUPPORTED;
    drain();
    if (!buffers.erase(at)) return INVALID_VALUE;
    free(memory(at));
    return lost;
}

static CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned) {
    if (state() != CUDA_SUCCESS) return state();
    if (spoils_capture()) return CAPTURE_UNSUPPORTED;
    *out = malloc(bytes);
    if (!*out) return CUDA_ERROR_OUT_OF_MEMORY;
    pinned[*out] = bytes;
    return CUDA_SUCCESS;
}

static CUresult cuMemFreeHost(void *p) {
    drain();
    if (!pinned.erase(p)) return INVALID_VALUE;
    free(p);
    return lost;
}

static CUresult enqueue(CUstream s, work w) {
    if (state() != CUDA_SUCCESS) return state();
    if (!s || s != the_stream) return INVALID_VALUE;
    (s->is_capturing ? s->record : s->queue).push_back(std::move(w));
    return CUDA_SUCCESS;
}

static CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t bytes, CUstream s) {
    if (!is_inside(dst, bytes)) return INVALID_VALUE;
    return enqueue(s, {[=] { memcpy(memory(dst), src, bytes); }, NULL, {}, 0, false});
}

static CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t bytes, CUstream s) {
    if (!is_inside(src, bytes)) return INVALID_VALUE;
    auto p = pinned.find(dst);
    ++(p != pinned.end() && bytes <= p->second ? n_read_pinned : n_read_other);
    return enqueue(s, {[=] { memcpy(dst, memory(src), bytes); }, NULL, {}, 0, false});
}

static CUresult cuMemcpyDtoDAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream s) {
    if (!is_inside(src, bytes) || !is_inside(dst, bytes)) return INVALID_VALUE;
    return enqueue(s, {[=] { memcpy(memory(dst), memory(src), bytes); }, NULL, {}, 0, false});
}

/* ---- launches ---- */

static CUresult launch(CUfunction f, const CUlaunchConfig &c, void **arguments) {
    const shim_kernel *k = f->kernel;
    bool is_ahead = false;
    if (c.grid_x == 0 || c.grid_y != 1 || c.grid_z != 1) return INVALID_VALUE;
    if (c.block_x != (unsigned)k->n_thread || c.block_y != 1 || c.block_z != 1)
        return INVALID_VALUE;
    for (unsigned i = 0; i < c.n_attribute; i++) {
        if (c.attributes[i].id != CU_LAUNCH_PROGRAMMATIC_STREAM_SERIALIZATION) return INVALID_VALUE;
        is_ahead = c.attributes[i].value.is_allowed != 0;
    }
    if (is_ahead && number("cc", 90) < 90) return INVALID_VALUE;
    n_alone += !c.stream->is_capturing;
    n_of_kernel[k->name]++;
    const char *p = (const char *)arguments[0];
    return enqueue(c.stream, {NULL, k, std::vector<char>(p, p + k->n_args), c.grid_x, is_ahead});
}

static CUresult cuLaunchKernel(CUfunction f, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                               unsigned block_x, unsigned block_y, unsigned block_z, unsigned,
                               CUstream s, void **arguments, void **) {
    return launch(f, {grid_x, grid_y, grid_z, block_x, block_y, block_z, 0, s, NULL, 0}, arguments);
}

static CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **arguments, void **) {
    return launch(f, *c, arguments);
}

/* ---- graphs ---- */

static CUresult cuStreamBeginCapture(CUstream s, int mode) {
    if (state() != CUDA_SUCCESS) return state();
    if (!s || s != the_stream || s->is_capturing || mode != CU_CAPTURE_THREAD_LOCAL)
        return INVALID_VALUE;
    s->is_capturing = true;
    s->is_spoilt = false;
    s->record.clear();
    return CUDA_SUCCESS;
}

static CUresult cuStreamEndCapture(CUstream s, CUgraph *out) {
    CUresult rc = (CUresult)number("capture", 0);
    *out = NULL;
    if (!s || s != the_stream || !s->is_capturing) return INVALID_VALUE;
    s->is_capturing = false;
    if (rc != CUDA_SUCCESS || s->is_spoilt) return rc ? rc : CAPTURE_INVALIDATED;
    *out = new CUgraph_st{s->record};
    return CUDA_SUCCESS;
}

static CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph g, uint64_t flags) {
    CUresult rc = (CUresult)number("instantiate", 0);
    if (state() != CUDA_SUCCESS || rc != CUDA_SUCCESS) return rc ? rc : state();
    if (!g || flags) return INVALID_VALUE;
    *out = new CUgraphExec_st{g->record};
    n_graph++;
    return CUDA_SUCCESS;
}

static CUresult cuGraphLaunch(CUgraphExec g, CUstream s) {
    if (!g) return INVALID_VALUE;
    n_graph_launch++;
    for (auto &w : g->record) {
        CUresult rc = enqueue(s, w);
        if (rc != CUDA_SUCCESS) return rc;
    }
    return state();
}

static CUresult cuGraphExecDestroy(CUgraphExec g) {
    delete g;
    return lost;
}

static CUresult cuGraphDestroy(CUgraph g) {
    delete g;
    return lost;
}

/* ---- names ---- */

/* Each function once more, under the lock. */
#define CU_FUNCTION(name, parameters)                                                              \
    template <typename... A> static CUresult locked_##name(A... a) {                               \
        std::lock_guard<std::recursive_mutex> guard(lock);                                         \
        return name(a...);                                                                         \
    }
#define CU_LATER(name, version, parameters) CU_FUNCTION(name, parameters)
#include "driver.def"
#undef CU_FUNCTION
#undef CU_LATER

template <typename... A> static void *address_of(CUresult (*f)(A...)) {
    return (void *)f;
}

EXPORT CUresult cuGetProcAddress(const char *name, void **out, int, uint64_t) {
    const char *missing = setting("missing");
    *out = NULL;
    if (missing && strcmp(missing, name) == 0) return NOT_FOUND;
#define CU_FUNCTION(function, parameters)                                                          \
    if (strcmp(name, #function) == 0) {                                                            \
        CUresult(*f) parameters = locked_##function;                                               \
        *out = address_of(f);                                                                      \
    }
#define CU_LATER(function, version, parameters) CU_FUNCTION(function, parameters)
#include "driver.def"
#undef CU_FUNCTION
#undef CU_LATER
    return *out ? CUDA_SUCCESS : NOT_FOUND;
}
