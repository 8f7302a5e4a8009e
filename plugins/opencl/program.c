/* SPDX-License-Identifier: MIT
 *
 * program.c - kernels on demand: text and options to a program, by way of the cache.
 *
 * A program is one file of kernels-cl with values for its -D options and holds one kernel of the
 * file's name.  The texts it includes are put in front of it and the #include lines left out, so
 * the driver's compiler needs no files.  Only the books of weight types stand where they are
 * included, because what is defined there decides what they are; programs for other types go
 * without. */
#include <stdio.h>
#include <string.h>

#include "ocl.h"

#define KERNEL_TEXT(symbol)                                                                        \
    extern const unsigned char cl_##symbol[];                                                      \
    extern const size_t cl_##symbol##_size;
#include "texts.def"
#undef KERNEL_TEXT

enum { TEXTS = 8, OPTIONS_BYTES = 256, LOG_BYTES = 16384 };

typedef struct text {
    const unsigned char *data;
    const size_t *size;
} text;
#define TEXT(symbol)                                                                               \
    { cl_##symbol, &cl_##symbol##_size }

/* option: names of the -D options, in the order of ocl_variant.value. */
typedef struct file {
    const char *name, *option[OCL_VALUES];
    text text[TEXTS];
} file;

#define COMMON  TEXT(common_clh)
#define GROUP   COMMON, TEXT(group_clh)
#define PRODUCT GROUP, TEXT(dequant_clh), TEXT(quant_clh), TEXT(integer_clh), TEXT(product_clh)
static const file files[] = {
    {"act", {"ACT"}, {COMMON, TEXT(act_clh), TEXT(act_cl)}},
    {"add", {NULL}, {COMMON, TEXT(add_cl)}},
    {"add_norm", {"KIND"}, {GROUP, TEXT(norm_clh), TEXT(add_norm_cl)}},
    {"attn",
     {"TYPE", "DK", "DV", "HEADS"},
     {GROUP, TEXT(attn_clh), TEXT(attn_group_clh), TEXT(attn_cl)}},
    {"embed", {"TYPE"}, {COMMON, TEXT(dequant_clh), TEXT(embed_cl)}},
    {"expert_sum", {NULL}, {COMMON, TEXT(expert_sum_cl)}},
    {"gate_up_glu",
     {"TYPE", "INTEGERS", "TOKENS", "ACT"},
     {PRODUCT, TEXT(act_clh), TEXT(gate_up_glu_cl)}},
    {"glu", {"ACT"}, {COMMON, TEXT(act_clh), TEXT(glu_cl)}},
    {"heads",
     {"TYPE", "PAIRS", "KIND", "NORMS"},
     {GROUP, TEXT(norm_clh), TEXT(kv_append_clh), TEXT(rope_clh), TEXT(heads_cl)}},
    {"kv_append", {"TYPE"}, {COMMON, TEXT(kv_append_clh), TEXT(kv_append_cl)}},
    {"linear", {"TYPE", "INTEGERS", "TOKENS"}, {PRODUCT, TEXT(linear_cl)}},
    {"linear_qkv", {"TYPE", "INTEGERS", "TOKENS"}, {PRODUCT, TEXT(linear_qkv_cl)}},
    {"linear_experts", {"TYPE", "INTEGERS"}, {PRODUCT, TEXT(linear_experts_cl)}},
    {"mul", {NULL}, {COMMON, TEXT(mul_cl)}},
    {"norm", {"KIND"}, {GROUP, TEXT(norm_clh), TEXT(norm_cl)}},
    {"rope", {"PAIRS"}, {COMMON, TEXT(rope_clh), TEXT(rope_cl)}},
    {"route", {"EXPERTS"}, {COMMON, TEXT(route_cl)}},
    {"rows", {NULL}, {COMMON, TEXT(rows_cl)}},
    {"scale", {NULL}, {COMMON, TEXT(scale_cl)}},
    {"topk", {"LIST"}, {COMMON, TEXT(topk_cl)}},
};

struct ocl_kernel {
    ocl_kernel *next;
    ocl_variant v;
    cl_program program;
    cl_kernel kernel;
};

/* ---- building ---------------------------------------------------------------------------------
 */

static void options_of(const peri_dev *d, const file *f, const ocl_variant *v,
                       char out[OPTIONS_BYTES]) {
    size_t at =
        (size_t)snprintf(out, OPTIONS_BYTES, "-cl-std=%s -DWANT_FMA=%d -DSHAPE=%d -DSHUFFLE=%d",
                         d->shape.std, d->has_fma, d->shape.kind, d->shape.shuffle);
    for (int i = 0; i < OCL_VALUES && f->option[i]; i++)
        at += (size_t)snprintf(out + at, OPTIONS_BYTES - at, " -D%s=%d", f->option[i],
                               (int)v->value[i]);
}

/* The first line of the compiler's log that says "error", or its first. */
static int32_t build_failed(peri_dev *d, cl_program p, const char *what, cl_int rc, peri_error *e) {
    char *log = d->host->alloc(LOG_BYTES, 8, -1), *line = NULL;
    if (log) {
        memset(log, 0, LOG_BYTES);
        d->cl->clGetProgramBuildInfo(p, d->found.id, CL_PROGRAM_BUILD_LOG, LOG_BYTES - 1, log,
                                     NULL);
        char *error = strstr(log, "error");
        for (line = error ? error : log; line > log && line[-1] != '\n';)
            line--;
        line[strcspn(line, "\n")] = 0;
    }
    int32_t st = ocl_fail(e, what, rc);
    peri_plugin_fail(e, st, "kernel %s does not build: %s (%d): %.100s", what, ocl_error_name(rc),
                     (int)rc, line ? line : "");
    d->host->free(log);
    return st;
}

static int32_t build(peri_dev *d, cl_program p, const char *what, const char *options,
                     peri_error *e) {
    cl_int rc = d->cl->clBuildProgram(p, 1, &d->found.id, options, NULL, NULL);
    return rc == CL_SUCCESS ? PERI_OK : build_failed(d, p, what, rc, e);
}

static int32_t from_source(peri_dev *d, const char *source, const char *what, const char *options,
                           cl_program *out, peri_error *e) {
    cl_int rc;
    *out = d->cl->clCreateProgramWithSource(d->context, 1, &source, NULL, &rc);
    if (rc != CL_SUCCESS) {
        *out = NULL;
        return ocl_fail(e, "clCreateProgramWithSource", rc);
    }
    d->n_built++;
    return build(d, *out, what, options, e);
}

/* NULL when there is none that the driver takes. */
static cl_program from_cache(peri_dev *d, const file *f, const char *options, const char *key,
                             size_t n_key) {
    size_t bytes;
    cl_int rc, status = CL_SUCCESS;
    peri_error ignored;
    unsigned char *data = ocl_cache_read(d, key, n_key, &bytes);
    if (!data) return NULL;
    const unsigned char *binary = data;
    cl_program p = d->cl->clCreateProgramWithBinary(d->context, 1, &d->found.id, &bytes, &binary,
                                                    &status, &rc);
    d->host->free(data);
    if (rc != CL_SUCCESS) return NULL;
    if (status == CL_SUCCESS && build(d, p, f->name, options, &ignored) == PERI_OK) {
        d->n_cached++;
        return p;
    }
    d->cl->clReleaseProgram(p);
    return NULL;
}

static void keep_binary(peri_dev *d, cl_program p, const char *key, size_t n_key) {
    size_t bytes = 0;
    if (d->cl->clGetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) !=
            CL_SUCCESS ||
        bytes == 0)
        return;
    unsigned char *data = d->host->alloc(bytes, 64, -1);
    if (!data) return;
    if (d->cl->clGetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof data, &data, NULL) == CL_SUCCESS)
        ocl_cache_write(d, key, n_key, data, bytes);
    d->host->free(data);
}

static const text books = TEXT(grids_def);

static bool wants_books(const file *f, const ocl_variant *v) {
    static const int32_t types[] = {OCL_IQ1_S, OCL_IQ1_M,   OCL_IQ2_XXS, OCL_IQ2_XS,
                                    OCL_IQ2_S, OCL_IQ3_XXS, OCL_IQ3_S};
    bool has_type = f->option[0] && strcmp(f->option[0], "TYPE") == 0;
    for (size_t i = 0; has_type && i < sizeof types / sizeof *types; i++)
        if (v->value[0] == types[i]) return true;
    return false;
}

static size_t copy(char *out, const text *t) {
    memcpy(out, t->data, *t->size);
    return *t->size;
}

/* Append a text without its #include "..." lines: what they name is there already, but for the
 * books. */
static size_t append(char *out, const text *t, bool has_books) {
    static const char include[] = "#include \"", book[] = "#include \"perigee/grids.def\"";
    size_t at = 0;
    for (size_t i = 0; i < *t->size;) {
        const char *line = (const char *)t->data + i, *end = memchr(line, '\n', *t->size - i);
        size_t n = end ? (size_t)(end - line) + 1 : *t->size - i;
        i += n;
        if (has_books && n >= sizeof book && memcmp(line, book, sizeof book - 1) == 0)
            at += copy(out + at, &books);
        if (n > sizeof include && memcmp(line, include, sizeof include - 1) == 0) continue;
        memcpy(out + at, line, n);
        at += n;
    }
    return at;
}

/* Everything that decides the binary, as one block that ends with the source and a NUL; the caller
 * frees it. */
static char *key_of(peri_dev *d, const file *f, const ocl_variant *v, const char *options,
                    size_t *n, char **source) {
    bool has_books = wants_books(f, v);
    size_t at = strlen(d->identity) + 1, room = at + OPTIONS_BYTES + 32;
    if (has_books) room += *books.size;
    for (int i = 0; i < TEXTS && f->text[i].data; i++)
        room += *f->text[i].size;
    char *key = d->host->alloc(room, 8, -1);
    if (!key) return NULL;
    memcpy(key, d->identity, at);
    at += (size_t)snprintf(key + at, room - at, "%s\n%s\n", f->name, options);
    *source = key + at;
    for (int i = 0; i < TEXTS && f->text[i].data; i++)
        at += append(key + at, &f->text[i], has_books);
    key[at++] = 0;
    *n = at;
    return key;
}

static int32_t make_program(peri_dev *d, const file *f, const ocl_variant *v, cl_program *out,
                            peri_error *e) {
    char options[OPTIONS_BYTES], *source;
    size_t n;
    int32_t st = PERI_OK;
    options_of(d, f, v, options);
    char *key = key_of(d, f, v, options, &n, &source);
    if (!key) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory to build kernel %s", f->name);
    *out = from_cache(d, f, options, key, n);
    if (!*out) {
        st = from_source(d, source, f->name, options, out, e);
        if (!st) keep_binary(d, *out, key, n);
    }
    d->host->free(key);
    return st;
}

/* ---- finding ----------------------------------------------------------------------------------
 */

static void drop(peri_dev *d, ocl_kernel *k) {
    if (k->kernel) d->cl->clReleaseKernel(k->kernel);
    if (k->program) d->cl->clReleaseProgram(k->program);
    d->host->free(k);
}

static int32_t make(peri_dev *d, const ocl_variant *v, ocl_kernel **out, peri_error *e) {
    const file *f = files;
    while (strcmp(f->name, v->name) != 0)
        f++;
    ocl_kernel *k = d->host->alloc(sizeof *k, _Alignof(ocl_kernel), -1);
    if (!k) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for kernel %s", v->name);
    *k = (ocl_kernel){.v = *v};
    int32_t st = make_program(d, f, v, &k->program, e);
    if (!st) {
        cl_int rc;
        k->kernel = d->cl->clCreateKernel(k->program, f->name, &rc);
        if (rc != CL_SUCCESS) {
            k->kernel = NULL;
            st = ocl_fail(e, f->name, rc);
        }
    }
    if (st) {
        drop(d, k);
        return st;
    }
    *out = k;
    return PERI_OK;
}

int32_t ocl_kernel_get(peri_dev *d, const ocl_variant *v, cl_kernel *out, peri_error *e) {
    ocl_kernel *k = d->kernel;
    while (k &&
           (strcmp(k->v.name, v->name) != 0 || memcmp(k->v.value, v->value, sizeof v->value) != 0))
        k = k->next;
    if (!k) {
        int32_t st = make(d, v, &k, e);
        if (st) return st;
        k->next = d->kernel;
        d->kernel = k;
    }
    *out = k->kernel;
    return PERI_OK;
}

void ocl_kernels_free(peri_dev *d) {
    while (d->kernel) {
        ocl_kernel *k = d->kernel;
        d->kernel = k->next;
        drop(d, k);
    }
}
