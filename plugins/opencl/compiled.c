/* SPDX-License-Identifier: MIT
 *
 * compiled.c - a stretch of ops that runs again and again: where several small ones follow one
 * another, one launch does them (kernels-cl/heads.cl).
 *
 * For a few tokens only: it is one work-item, which does an op for all tokens before the next,
 * exactly as launches one by one would, and to the same bits.  With many tokens those are the
 * faster way. */
#include <stdio.h>

#include "ocl.h"

enum { FEW_TOKENS = 4 };

struct peri_compiled {
    const peri_program *p;
    uint32_t first, n;
    unsigned char together[]; /* [n] ops from there on in one launch; 0: the op alone */
};

int32_t ocl_compile(peri_dev *d, const peri_program *p, uint32_t first, uint32_t n,
                    const peri_bucket *b, peri_compiled **out, peri_error *e) {
    uint32_t n_together = 0;
    *out = NULL;
    peri_compiled *c = d->host->alloc(sizeof *c + n, _Alignof(peri_compiled), -1);
    if (!c) return peri_plugin_fail(e, PERI_E_NOMEM, "no memory for %u ops", n);
    *c = (peri_compiled){.p = p, .first = first, .n = n};
    for (uint32_t i = 0; i < n; i++) {
        c->together[i] = (unsigned char)ocl_prepare_heads(d, p, first + i, first + n, b);
        n_together += c->together[i] != 0;
    }
    if (n_together) {
        *out = c;
        return PERI_OK;
    }
    d->host->free(c);
    return peri_plugin_fail(e, PERI_E_UNSUPPORTED, "nothing to do in one launch");
}

int32_t ocl_run_compiled(peri_dev *d, peri_compiled *c, const peri_bind *m, const peri_step *s,
                         peri_error *e) {
    int32_t st = PERI_OK;
    bool is_few = s->n[PERI_SYM_T] <= FEW_TOKENS;
    for (uint32_t i = 0, n; i < c->n && !st; i += n) {
        n = is_few && c->together[i] ? c->together[i] : 1;
        st = n > 1 ? ocl_run_heads(d, c->p, c->first + i, n, m, s, e)
                   : ocl_run_op(d, c->p, c->first + i, m, s, e);
        if (st) {
            char text[200];
            snprintf(text, sizeof text, "%.199s", e->text);
            peri_plugin_fail(e, st, "op %u: %s", c->first + i, text);
        }
    }
    return st;
}

void ocl_free_compiled(peri_dev *d, peri_compiled *c) {
    if (c) d->host->free(c);
}
