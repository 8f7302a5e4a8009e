/* SPDX-License-Identifier: MIT
 *
 * doc.c - see doc.h. */
#include "api/doc.h"

#include "base/status.h"

#include "base/compiler.h"

void peri_doc_put(peri_doc *d, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value)) d->failed = true; /* takes value either way */
}

void peri_doc_append(peri_doc *d, json_t *array, json_t *value) {
    if (json_array_append_new(array, value)) d->failed = true;
}

json_t *peri_doc_text(peri_str s) {
    json_t *exact = json_stringn(s.data ? s.data : "", s.size);
    if (exact) return exact;
    peri_text t = {0};
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c < 0x80)
            peri_text_add(&t, &c, 1);
        else
            peri_text_add_str(&t, "\xef\xbf\xbd");
    }
    json_t *out = t.failed ? NULL : json_stringn(t.data ? t.data : "", t.size);
    peri_text_fini(&t);
    return out;
}

json_t *peri_doc_cstr(const char *s) {
    return peri_doc_text(peri_str_of(s));
}

peri_status peri_doc_finish(peri_doc *d, char **text, peri_error *err) {
    peri_status st = peri_json_dump(d->failed ? NULL : d->root,
                                    JSON_INDENT(2) | JSON_REAL_PRECISION(9), text, err);
    json_decref(d->root);
    return st;
}
