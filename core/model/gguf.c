/* SPDX-License-Identifier: MIT
 *
 * gguf.c - a model of one or more GGUF files: opening, shards, lookups, typed getters.
 *
 * The bytes of one file are parsed and checked in gguf_parse.c.  Here the files of a sharded model
 * are found by name, their split.* keys compared with it, and their tensors put into one table.
 *
 * Invariant: after opening nothing changes; every string and array points into a mapping. */
#include "model/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/reader.h"
#include "base/sort.h"
#include "base/status.h"
#include "model/gguf_int.h"

#include "base/compiler.h"

struct peri_gguf {
    peri_arena *arena;
    peri_gguf_shard *shards;
    uint32_t n_shard;
    uint64_t copied_bytes; /* into large pages */
    const char *path;
    uint64_t n_tensor;
    peri_gguf_tensor *tensors; /* of all shards */
    peri_gguf_tensor *merged;  /* the same when it is ours to free: more than one shard */
    uint32_t *by_name;         /* [n_tensor] */
};

/* ---- types ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t bytes;
} types[] = {
    [PERI_GGUF_U8] = {"u8", 1},         [PERI_GGUF_I8] = {"i8", 1},
    [PERI_GGUF_U16] = {"u16", 2},       [PERI_GGUF_I16] = {"i16", 2},
    [PERI_GGUF_U32] = {"u32", 4},       [PERI_GGUF_I32] = {"i32", 4},
    [PERI_GGUF_F32] = {"f32", 4},       [PERI_GGUF_BOOL] = {"bool", 1},
    [PERI_GGUF_STRING] = {"string", 0}, [PERI_GGUF_ARRAY] = {"array", 0},
    [PERI_GGUF_U64] = {"u64", 8},       [PERI_GGUF_I64] = {"i64", 8},
    [PERI_GGUF_F64] = {"f64", 8},
};

const char *peri_gguf_type_name(uint32_t type) {
    return type <= PERI_GGUF_F64 ? types[type].name : "?";
}

uint32_t peri_gguf_type_bytes(uint32_t type) {
    return type <= PERI_GGUF_F64 ? types[type].bytes : 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

peri_status peri_gguf_vfail_key(const peri_gguf_shard *s, const peri_gguf_value *v, peri_error *err,
                                const char *fmt, va_list ap) {
    char text[sizeof err->text], name[PERI_GGUF_SHOWN + 1];
    if (err == NULL) return PERI_E_CORRUPT;
    vsnprintf(text, sizeof text, fmt, ap);
    peri_gguf_show(name, v->key);
    return peri_fail(err, PERI_E_CORRUPT, "%s: key %s at offset %" PRIu64 ": %s", s->name, name,
                     v->off, text);
}

peri_status peri_gguf_vfail_tensor(const peri_gguf_shard *s, const peri_gguf_tensor *t,
                                   peri_error *err, const char *fmt, va_list ap) {
    char text[sizeof err->text], name[PERI_GGUF_SHOWN + 1];
    if (err == NULL) return PERI_E_CORRUPT;
    vsnprintf(text, sizeof text, fmt, ap);
    peri_gguf_show(name, t->name);
    return peri_fail(err, PERI_E_CORRUPT, "%s: tensor %s at offset %" PRIu64 ": %s", s->name, name,
                     t->info_off, text);
}

peri_status peri_gguf_fail_key(const peri_gguf *g, const peri_gguf_value *v, peri_error *err,
                               const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    peri_status status = peri_gguf_vfail_key(&g->shards[0], v, err, fmt, ap);
    va_end(ap);
    return status;
}

peri_status peri_gguf_fail_tensor(const peri_gguf *g, const peri_gguf_tensor *t, peri_error *err,
                                  const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    peri_status status = peri_gguf_vfail_tensor(&g->shards[t->shard], t, err, fmt, ap);
    va_end(ap);
    return status;
}

static peri_status fail_shard_key(const peri_gguf_shard *s, const peri_gguf_value *v,
                                  peri_error *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static peri_status fail_shard_key(const peri_gguf_shard *s, const peri_gguf_value *v,
                                  peri_error *err, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    peri_status status = peri_gguf_vfail_key(s, v, err, fmt, ap);
    va_end(ap);
    return status;
}

void peri_gguf_show(char dst[PERI_GGUF_SHOWN + 1], peri_str name) {
    char text[PERI_GGUF_SHOWN + 2]; /* one more than fits, so that cutting shows */
    size_t n = name.size < sizeof text - 1 ? name.size : sizeof text - 1;
    memcpy(text, name.data, n);
    text[n] = 0;
    peri_escape(dst, PERI_GGUF_SHOWN + 1, text);
}

/* What messages call the file: its path, or "..." and the end of a long one. */
static const char *shown_name(peri_arena *arena, const char *path) {
    char tail[PERI_GGUF_SHOWN + 1], text[PERI_GGUF_SHOWN + 1];
    size_t n = strlen(path);
    if (n <= PERI_GGUF_SHOWN)
        snprintf(tail, sizeof tail, "%s", path);
    else
        snprintf(tail, sizeof tail, "...%s", path + n - (PERI_GGUF_SHOWN - 3));
    peri_gguf_show(text, peri_str_of(tail));
    return peri_arena_str(arena, peri_str_of(text)).data;
}

/* ---- index ----------------------------------------------------------------------------------- */

int peri_gguf_compare(peri_str a, peri_str b) {
    if (a.size != b.size) return a.size < b.size ? -1 : 1;
    return a.size == 0 ? 0 : memcmp(a.data, b.data, a.size);
}

const peri_gguf_value *peri_gguf_shard_find(const peri_gguf_shard *s, peri_str key) {
    uint64_t lo = 0, hi = s->n_value;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        const peri_gguf_value *v = &s->values[s->by_key[mid]];
        int order = peri_gguf_compare(key, v->key);
        if (order == 0) return v;
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static bool name_less(const void *user, uint32_t a, uint32_t b) {
    const peri_gguf_tensor *t = user;
    return peri_gguf_compare(t[a].name, t[b].name) < 0;
}

static peri_status fail_twice(const peri_gguf_shard *shards, const peri_gguf_tensor *first,
                              const peri_gguf_tensor *second, peri_error *err) {
    char name[PERI_GGUF_SHOWN + 1];
    peri_gguf_show(name, second->name);
    return peri_fail(err, PERI_E_CORRUPT,
                     "%s: tensor %s at offset %" PRIu64 ": found the name a second time (first at "
                     "offset %" PRIu64 "%s), expected it once",
                     shards[second->shard].name, name, second->info_off, first->info_off,
                     first->shard == second->shard ? "" : " of another shard");
}

/* Sort the names into by_name and refuse equal ones. */
static peri_status index_tensors(peri_gguf *g, peri_error *err) {
    const peri_gguf_tensor *t = g->tensors;
    uint32_t twice = UINT32_MAX, first = 0;
    g->by_name = peri_arena_alloc(g->arena, (size_t)g->n_tensor, sizeof *g->by_name);
    for (uint32_t i = 0; g->by_name != NULL && i < g->n_tensor; i++)
        g->by_name[i] = i;
    if (g->by_name == NULL ||
        peri_sort_index(g->by_name, (size_t)g->n_tensor, name_less, t) != PERI_OK)
        return peri_fail(err, PERI_E_NOMEM, "%s: out of memory for an index of the tensors",
                         g->shards[0].name);
    for (uint64_t i = 1; i < g->n_tensor; i++) {
        uint32_t a = g->by_name[i - 1], b = g->by_name[i];
        if (b < twice && !name_less(t, a, b)) {
            twice = b;
            first = a;
        }
    }
    return twice == UINT32_MAX ? PERI_OK : fail_twice(g->shards, &t[first], &t[twice], err);
}

/* ---- shards ---------------------------------------------------------------------------------- */

enum { SUFFIX_BYTES = sizeof "-00001-of-00001.gguf" - 1, DIGITS = 5 };

static bool parse_digits(const char *s, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        *out = *out * 10 + (uint32_t)(s[i] - '0');
    }
    return true;
}

/* Does the path end in -NNNNN-of-NNNNN.gguf?  Sets both numbers, counted from 1. */
static bool parse_suffix(const char *path, uint32_t *number, uint32_t *count) {
    size_t n = strlen(path);
    if (n < SUFFIX_BYTES) return false;
    const char *s = path + n - SUFFIX_BYTES;
    return s[0] == '-' && parse_digits(s + 1, number) && memcmp(s + 6, "-of-", 4) == 0 &&
           parse_digits(s + 10, count) && strcmp(s + 15, ".gguf") == 0;
}

static peri_status check_split_key(const peri_gguf_shard *s, const char *key, uint64_t expected,
                                   bool is_required, peri_error *err) {
    const peri_gguf_value *v = peri_gguf_shard_find(s, peri_str_of(key));
    int64_t found = 0;
    if (v == NULL && !is_required) return PERI_OK;
    if (v == NULL)
        return peri_fail(err, PERI_E_CORRUPT,
                         "%s: header: offset 16: keys: found no %s, expected it with %" PRIu64,
                         s->name, key, expected);
    if (v->is_array || v->type == PERI_GGUF_BOOL || v->type == PERI_GGUF_F32 ||
        v->type == PERI_GGUF_F64 || v->type == PERI_GGUF_STRING)
        return fail_shard_key(s, v, err, "found type %s%s, expected an integer",
                              v->is_array ? "array of " : "", peri_gguf_type_name(v->type));
    if (!peri_gguf_as_i64(v, 0, &found) || found < 0 || (uint64_t)found != expected)
        return fail_shard_key(s, v, err, "found %" PRId64 ", expected %" PRIu64, found, expected);
    return PERI_OK;
}

/* A file outside the naming pattern must be whole. */
static peri_status check_single(const peri_gguf_shard *s, peri_error *err) {
    int64_t count = 0;
    const peri_gguf_value *v = peri_gguf_shard_find(s, PERI_STR("split.count"));
    if (v == NULL || v->is_array || !peri_gguf_as_i64(v, 0, &count) || count < 2) return PERI_OK;
    return fail_shard_key(s, v, err,
                          "found %" PRId64 " shards, expected a file name ending in "
                          "-00001-of-%05" PRId64 ".gguf",
                          count, count);
}

static peri_status check_split(const peri_gguf_shard *s, uint32_t count, peri_error *err) {
    peri_status status = check_split_key(s, "split.count", count, count > 1, err);
    return status ? status : check_split_key(s, "split.no", s->number, count > 1, err);
}

/* Append the tensors of shard s to the table of all. */
static peri_status merge_tensors(peri_gguf *g, const peri_gguf_shard *s, peri_error *err) {
    uint64_t n = g->n_tensor + s->n_tensor; /* both below 2^20 */
    if (n > PERI_GGUF_MAX_TENSORS)
        return peri_fail(err, PERI_E_CORRUPT,
                         "%s: header: offset 8: tensor count: found %" PRIu64
                         " in all shards, expected at most %d",
                         s->name, n, (int)PERI_GGUF_MAX_TENSORS);
    peri_gguf_tensor *t = peri_resize_array(g->merged, (size_t)n, sizeof *t);
    if (t == NULL)
        return peri_fail(err, PERI_E_NOMEM, "%s: out of memory for the tensors", s->name);
    if (s->n_tensor != 0) memcpy(t + g->n_tensor, s->tensors, (size_t)s->n_tensor * sizeof *t);
    g->merged = t;
    g->tensors = t;
    g->n_tensor = n;
    return PERI_OK;
}

static peri_status open_shard(peri_gguf *g, const char *path, uint32_t i, peri_error *err) {
    peri_gguf_shard *s = &g->shards[i];
    peri_status status = peri_mapping_open(path, &s->map, err);
    if (status != PERI_OK) return status;
    s->number = i;
    s->name = shown_name(g->arena, path);
    if (s->name == NULL) return peri_fail(err, PERI_E_NOMEM, "%s: out of memory", path);
    s->data = peri_mapping_data(s->map);
    s->size = peri_mapping_size(s->map);
    status = peri_gguf_parse(s, g->arena, err);
    /* Damage explains whatever the parser found in the zeros. */
    peri_status damage = peri_mapping_check(s->map, err);
    return damage ? damage : status;
}

static peri_status open_all_shards(peri_gguf *g, const char *path, uint32_t count,
                                   peri_error *err) {
    peri_status status = PERI_OK;
    int stem = (int)(strlen(path) - SUFFIX_BYTES);
    for (uint32_t i = 0; i < count && status == PERI_OK; i++) {
        char *name =
            peri_strf("%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf", stem, path, i + 1, count);
        if (name == NULL) return peri_fail(err, PERI_E_NOMEM, "%s: out of memory", path);
        status = open_shard(g, name, i, err);
        peri_free(name);
        if (status == PERI_OK) status = check_split(&g->shards[i], count, err);
        if (status == PERI_OK && count > 1) status = merge_tensors(g, &g->shards[i], err);
    }
    if (status == PERI_OK && count > 1)
        status = check_split_key(&g->shards[0], "split.tensors.count", g->n_tensor, false, err);
    return status;
}

/* ---- opening --------------------------------------------------------------------------------- */

static peri_gguf *gguf_new(const char *path, uint32_t n_shard) {
    peri_gguf *g = peri_calloc(1, sizeof *g);
    if (g == NULL) return NULL;
    g->arena = peri_arena_new();
    if (g->arena != NULL) {
        g->shards = peri_arena_alloc(g->arena, n_shard, sizeof *g->shards);
        g->path = peri_arena_str(g->arena, peri_str_of(path)).data;
    }
    if (g->shards == NULL || g->path == NULL) {
        peri_gguf_close(g);
        return NULL;
    }
    g->n_shard = n_shard;
    return g;
}

static peri_status open_files(peri_gguf *g, const char *path, bool is_split, peri_error *err) {
    peri_status status;
    if (is_split) {
        status = open_all_shards(g, path, g->n_shard, err);
    } else {
        status = open_shard(g, path, 0, err);
        if (status == PERI_OK) status = check_single(&g->shards[0], err);
    }
    if (status == PERI_OK && g->n_shard == 1) {
        g->tensors = g->shards[0].tensors;
        g->n_tensor = g->shards[0].n_tensor;
    }
    return status == PERI_OK ? index_tensors(g, err) : status;
}

peri_status peri_gguf_open(const char *path, peri_gguf **out, peri_error *err) {
    uint32_t number = 1, count = 1;
    *out = NULL;
    if (path == NULL || path[0] == 0) return peri_fail(err, PERI_E_INVALID, "empty file name");
    bool is_split = parse_suffix(path, &number, &count);
    if (is_split && (number == 0 || number > count))
        return peri_fail(err, PERI_E_INVALID,
                         "%s: found shard %" PRIu32 " of %" PRIu32
                         " in the name, expected numbers from 1 up",
                         path, number, count);
    if (is_split && number != 1)
        return peri_fail(err, PERI_E_INVALID,
                         "%s: found shard %" PRIu32 " of %" PRIu32
                         ", expected the first: %.*s-00001-of-%05" PRIu32 ".gguf",
                         path, number, count, (int)(strlen(path) - SUFFIX_BYTES), path, count);
    peri_gguf *g = gguf_new(path, count);
    if (g == NULL) return peri_fail(err, PERI_E_NOMEM, "%s: out of memory", path);
    peri_status status = open_files(g, path, is_split, err);
    if (status != PERI_OK) {
        peri_gguf_close(g);
        return status;
    }
    *out = g;
    return PERI_OK;
}

peri_status peri_gguf_open_bytes(const char *name, const void *data, size_t size, peri_gguf **out,
                                 peri_error *err) {
    *out = NULL;
    peri_gguf *g = gguf_new(name, 1);
    if (g == NULL) return peri_fail(err, PERI_E_NOMEM, "%s: out of memory", name);
    g->shards[0].name = g->path;
    g->shards[0].data = data;
    g->shards[0].size = size;
    peri_status status = peri_gguf_parse(&g->shards[0], g->arena, err);
    if (status == PERI_OK) status = check_single(&g->shards[0], err);
    if (status == PERI_OK) {
        g->tensors = g->shards[0].tensors;
        g->n_tensor = g->shards[0].n_tensor;
        status = index_tensors(g, err);
    }
    if (status != PERI_OK) {
        peri_gguf_close(g);
        return status;
    }
    *out = g;
    return PERI_OK;
}

void peri_gguf_close(peri_gguf *g) {
    if (g == NULL) return;
    for (uint32_t i = 0; i < g->n_shard; i++)
        peri_mapping_close(g->shards[i].map);
    peri_free(g->merged);
    peri_arena_free(g->arena);
    peri_free(g);
}

/* ---- lookups --------------------------------------------------------------------------------- */

const char *peri_gguf_path(const peri_gguf *g) {
    return g->path;
}

const char *peri_gguf_shown_name(const peri_gguf *g) {
    return g->shards[0].name;
}

uint64_t peri_gguf_file_bytes(const peri_gguf *g) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < g->n_shard; i++)
        bytes += g->shards[i].size;
    return bytes;
}

uint32_t peri_gguf_version(const peri_gguf *g) {
    return g->shards[0].version;
}

peri_status peri_gguf_check(const peri_gguf *g, peri_error *err) {
    for (uint32_t i = 0; i < g->n_shard; i++) {
        peri_status status =
            g->shards[i].map == NULL ? PERI_OK : peri_mapping_check(g->shards[i].map, err);
        if (status != PERI_OK) return status;
    }
    return PERI_OK;
}

typedef struct copying {
    uint64_t before; /* bytes of the shards done */
    bool (*go_on)(void *user, uint64_t done);
    void *user;
} copying;

static bool go_on_in_all(void *user, uint64_t done) {
    const copying *c = user;
    return c->go_on == NULL || c->go_on(c->user, c->before + done);
}

uint64_t peri_gguf_copy_in(peri_gguf *g, peri_pool *pool, bool (*go_on)(void *user, uint64_t done),
                           void *user) {
    copying c = {0, go_on, user};
    for (uint32_t i = 0; i < g->n_shard; i++) {
        if (g->shards[i].map == NULL) break;
        uint64_t n = peri_mapping_copy_in(g->shards[i].map, pool, go_on_in_all, &c);
        c.before += n;
        if (n < g->shards[i].size) break;
    }
    g->copied_bytes = c.before;
    return c.before;
}

uint64_t peri_gguf_copied_bytes(const peri_gguf *g) {
    return g->copied_bytes;
}

uint64_t peri_gguf_n_values(const peri_gguf *g) {
    return g->shards[0].n_value;
}

const peri_gguf_value *peri_gguf_value_at(const peri_gguf *g, uint64_t i) {
    return i < g->shards[0].n_value ? &g->shards[0].values[i] : NULL;
}

const peri_gguf_value *peri_gguf_find(const peri_gguf *g, const char *key) {
    return peri_gguf_shard_find(&g->shards[0], peri_str_of(key));
}

uint64_t peri_gguf_n_tensors(const peri_gguf *g) {
    return g->n_tensor;
}

const peri_gguf_tensor *peri_gguf_tensor_at(const peri_gguf *g, uint64_t i) {
    return i < g->n_tensor ? &g->tensors[i] : NULL;
}

const peri_gguf_tensor *peri_gguf_find_tensor(const peri_gguf *g, const char *name) {
    peri_str wanted = peri_str_of(name);
    uint64_t lo = 0, hi = g->n_tensor;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        const peri_gguf_tensor *t = &g->tensors[g->by_name[mid]];
        int order = peri_gguf_compare(wanted, t->name);
        if (order == 0) return t;
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}
