/* SPDX-License-Identifier: MIT
 *
 * json.c - a device's description as JSON, there and back. */
#include <stdio.h>
#include <string.h>

#include "plugin/plugin_int.h"

#include "base/compiler.h"

json_t *peri_json_from_info(const peri_dev_info *d) {
    /* As text, since jansson's integers are signed. */
    char total[24], unused[24];
    snprintf(total, sizeof total, "%llu", (unsigned long long)d->mem_total);
    snprintf(unused, sizeof unused, "%llu", (unsigned long long)d->mem_free);
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:f, s:I}", "name", d->name, "model",
                     d->model, "isa", d->isa, "location", d->location, "flags",
                     (json_int_t)d->flags, "mem_total", total, "mem_free", unused, "mem_gbps",
                     (double)d->mem_gbps, "kv_block_tokens", (json_int_t)d->kv_block_tokens);
}

static bool get_text(const json_t *j, const char *key, char *out, size_t room) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_string(v) || json_string_length(v) != strlen(json_string_value(v))) return false;
    /* Escaped when it was written; what would change now is not ours. */
    return peri_escape(out, room, json_string_value(v)) && strcmp(out, json_string_value(v)) == 0;
}

static bool get_u64(const json_t *j, const char *key, uint64_t *out) {
    const char *s = json_string_value(json_object_get(j, key));
    uint64_t v = 0;
    if (s == NULL || *s == 0) return false;
    for (; *s != 0; s++)
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return false;
    *out = v;
    return true;
}

static bool get_u32(const json_t *j, const char *key, uint32_t *out) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
        return false;
    *out = (uint32_t)json_integer_value(v);
    return true;
}

peri_status peri_json_to_info(const json_t *j, peri_dev_info *out, peri_error *err) {
    const json_t *gbps = json_object_get(j, "mem_gbps");
    *out = (peri_dev_info){.size = sizeof *out};
    if (!get_text(j, "name", out->name, sizeof out->name) || out->name[0] == 0 ||
        !get_text(j, "model", out->model, sizeof out->model) ||
        !get_text(j, "isa", out->isa, sizeof out->isa) ||
        !get_text(j, "location", out->location, sizeof out->location) ||
        !get_u32(j, "flags", &out->flags) || !get_u64(j, "mem_total", &out->mem_total) ||
        !get_u64(j, "mem_free", &out->mem_free) || !json_is_number(gbps) ||
        !get_u32(j, "kv_block_tokens", &out->kv_block_tokens) || out->flags >> 16 != 0 ||
        !(json_number_value(gbps) >= 0 && json_number_value(gbps) < 1e9))
        return peri_fail(err, PERI_E_CORRUPT,
                         "a device's description lacks a member or has a wrong one");
    out->mem_gbps = (float)json_number_value(gbps);
    return PERI_OK;
}
