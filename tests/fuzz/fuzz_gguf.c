/* SPDX-License-Identifier: MIT
 *
 * fuzz_gguf.c - libFuzzer target: any bytes through the GGUF reader.
 *
 * Beyond what the sanitizers see it aborts on a leak, on memory above 4 N + 16 MB, on a message
 * with a control byte or without an offset, and on a tensor outside the input. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "model/gguf_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition, const char *what, const char *text) {
    if (condition) return;
    fprintf(stderr, "fuzz_gguf: %s: %s\n", what, text);
    abort();
}

static void check_error(peri_status status, const peri_error *err) {
    require(err->code == status, "status and error differ", err->text);
    require(memchr(err->text, 0, sizeof err->text) != NULL, "unterminated message", "");
    for (const char *p = err->text; *p != 0; p++)
        require((unsigned char)*p >= 0x20 && *p != 0x7f, "control byte in the message", err->text);
    require(strstr(err->text, "offset ") != NULL, "no offset in the message", err->text);
}

/* Touch whatever a user of the object could. */
static void read_all(const peri_gguf *g, const uint8_t *data, size_t size) {
    volatile unsigned sum = 0; /* keeps the reads alive */
    for (uint64_t i = 0; i < peri_gguf_n_values(g); i++) {
        const peri_gguf_value *v = peri_gguf_value_at(g, i);
        for (uint64_t k = 0; k < v->n; k++) {
            peri_str s;
            double d;
            int64_t n;
            if (peri_gguf_as_f64(v, k, &d)) sum += d > 0;
            if (peri_gguf_as_i64(v, k, &n)) sum += n > 0;
            if (peri_gguf_as_str(v, k, &s) && s.size != 0) sum += (unsigned char)s.data[s.size - 1];
        }
    }
    for (uint64_t i = 0; i < peri_gguf_n_tensors(g); i++) {
        const peri_gguf_tensor *t = peri_gguf_tensor_at(g, i);
        char name[128];
        require(t->data >= data && t->bytes <= size - (size_t)(t->data - data),
                "tensor outside the input", "");
        snprintf(name, sizeof name, "%.*s", (int)t->name.size, t->name.data);
        require(peri_gguf_find_tensor(g, name) == t, "tensor not found by name", name);
    }
    (void)sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    peri_gguf *g = NULL;
    peri_error err = {0};
    peri_fault *heap = peri_fault_alloc_install();
    peri_status status = peri_gguf_open_bytes("input", data, size, &g, &err);
    require(heap->peak_bytes <= 4 * (uint64_t)size + (16u << 20), "too much memory", "");
    if (status != PERI_OK)
        check_error(status, &err);
    else
        read_all(g, data, size);
    peri_gguf_close(g);
    require(heap->live == 0, "leak", "");
    peri_fault_alloc_remove();
    return 0;
}
