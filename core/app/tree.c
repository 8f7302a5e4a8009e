/* SPDX-License-Identifier: MIT
 *
 * tree.c - see tree.h.  Each value has one of four shapes (scalar, list, table, block), found by
 * looking at its members; the printer recurses only into blocks, and jansson has limited the depth
 * of what it parsed. */
#include "tree.h"

#include <stdlib.h>
#include <string.h>

#include "out.h"

enum { MAX_COLUMN = 9, TEXT_BYTES = 2000 };

static bool is_scalar(const json_t *v) {
    return !json_is_array(v) && !json_is_object(v);
}

/* A short list of numbers, such as a shape, is shown within a line. */
static bool is_inline(const json_t *v) {
    if (is_scalar(v)) return true;
    if (!json_is_array(v) || json_array_size(v) > 8) return false;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_number(json_array_get(v, i))) return false;
    return json_array_size(v) > 0;
}

/* An object that fits into a row of a table. */
static bool is_flat(const json_t *v) {
    const char *key;
    json_t *m;
    if (!json_is_object(v) || json_object_size(v) > MAX_COLUMN) return false;
    json_object_foreach((json_t *)v, key, m) if (!is_inline(m)) return false;
    return true;
}

/* An object whose members are all flat objects, or an array of flat objects. */
static bool is_table(const json_t *v) {
    const char *key;
    json_t *m;
    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++)
            if (!is_flat(json_array_get(v, i))) return false;
        return json_array_size(v) > 0;
    }
    if (json_object_size(v) < 2) return false;
    json_object_foreach((json_t *)v, key, m) if (!is_flat(m)) return false;
    return true;
}

static bool counts_bytes(const char *key) {
    static const char *const known[] = {"bytes", "weights",   "kv",       "arena",
                                        "room",  "mem_total", "mem_free", "mem_limit"};
    size_t n = strlen(key);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(key, known[i]) == 0) return true;
    return n > 6 && strcmp(key + n - 6, "_bytes") == 0;
}

/* Where 0 stands for an absent figure. */
static const char *zero_word(const char *key) {
    if (strcmp(key, "quota") == 0 || strcmp(key, "mem_limit") == 0) return "none";
    if (strcmp(key, "mem_gbps") == 0 || strcmp(key, "mem_free") == 0) return "unknown";
    return NULL;
}

static const char *value_text(const char *key, const json_t *v, char *buf, size_t n) {
    if (json_is_null(v)) return "unknown";
    if (json_is_number(v) && json_number_value(v) == 0 && zero_word(key)) return zero_word(key);
    if (json_is_number(v) && counts_bytes(key))
        return peri_bytes_show(json_number_value(v), buf, n);
    return peri_json_show(v, buf, n);
}

static void print_name(const char *key, int width) {
    peri_out_untrusted(stdout, key, strlen(key), false);
    int pad = width - (int)strlen(key);
    if (pad > 0) printf("%*s", pad, "");
}

/* ---- tables -------------------------------------------------------------------------------------
 */

typedef struct columns {
    const char *key[MAX_COLUMN];
    size_t n;
    unsigned right; /* bit i: only numbers so far */
} columns;

static void add_columns(columns *c, const json_t *row) {
    const char *key;
    json_t *m;
    json_object_foreach((json_t *)row, key, m) {
        size_t i = 0;
        while (i < c->n && strcmp(c->key[i], key) != 0)
            i++;
        if (i == c->n) {
            if (c->n == MAX_COLUMN) continue;
            c->key[c->n++] = key;
            c->right |= 1u << i;
        }
        if (!json_is_number(m)) c->right &= ~(1u << i);
    }
}

static void add_row(peri_table *t, const columns *c, const char *name, const json_t *row) {
    char buf[TEXT_BYTES];
    peri_table_row(t);
    if (name) peri_table_cell(t, "%s", name);
    for (size_t i = 0; i < c->n; i++) {
        const json_t *m = json_object_get(row, c->key[i]);
        peri_table_cell(t, "%s", value_text(c->key[i], m, buf, sizeof buf));
    }
}

static void print_table(const json_t *v, int indent) {
    columns c = {.n = 0};
    const char *heads[MAX_COLUMN + 1], *key;
    json_t *row;
    bool is_named = json_is_object(v);
    size_t n = json_array_size(v);
    if (is_named) json_object_foreach((json_t *)v, key, row) add_columns(&c, row);
    for (size_t i = 0; i < n; i++)
        add_columns(&c, json_array_get(v, i));
    heads[0] = "name";
    memcpy(heads + is_named, c.key, c.n * sizeof *heads);
    if (c.n == 0) return;
    peri_table *t = peri_table_new(c.n + is_named, heads);
    if (t && is_named) json_object_foreach((json_t *)v, key, row) add_row(t, &c, key, row);
    for (size_t i = 0; t && i < n; i++)
        add_row(t, &c, NULL, json_array_get(v, i));
    peri_table_print(t, indent, is_named ? c.right << 1 : c.right);
}

/* ---- blocks -------------------------------------------------------------------------------------
 */

static void print_scalar(const json_t *v, int indent) {
    char buf[TEXT_BYTES];
    peri_json_show(v, buf, sizeof buf);
    printf("%*s", indent, "");
    peri_out_untrusted(stdout, buf, strlen(buf), false);
    putchar('\n');
}

static void print_object(const json_t *v, int indent) {
    char buf[TEXT_BYTES];
    const char *key;
    json_t *m;
    int width = 0;
    bool any = false;
    json_object_foreach((json_t *)v, key, m) {
        int n = (int)strlen(key) + 2;
        if (is_inline(m) && n > width && n < 48) width = n;
    }
    json_object_foreach((json_t *)v, key, m) {
        if (!is_inline(m)) continue;
        printf("%*s", indent, "");
        print_name(key, width);
        const char *text = value_text(key, m, buf, sizeof buf);
        peri_out_untrusted(stdout, text, strlen(text), false);
        putchar('\n');
        any = true;
    }
    json_object_foreach((json_t *)v, key, m) {
        if (is_inline(m)) continue;
        if (any) putchar('\n');
        any = true;
        printf("%*s", indent, "");
        print_name(key, 0);
        bool is_empty = json_array_size(m) == 0 && json_object_size(m) == 0;
        fputs(is_empty ? ": none\n" : ":\n", stdout);
        peri_tree_print(m, indent + 2);
    }
}

void peri_tree_print(const json_t *v, int indent) {
    if (is_scalar(v)) {
        print_scalar(v, indent);
    } else if (is_table(v)) {
        print_table(v, indent);
    } else if (json_is_object(v)) {
        print_object(v, indent);
    } else {
        for (size_t i = 0; i < json_array_size(v); i++) {
            const json_t *m = json_array_get(v, i);
            if (i && !is_scalar(m)) putchar('\n');
            peri_tree_print(m, indent);
        }
    }
}
