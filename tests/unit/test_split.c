/* SPDX-License-Identifier: MIT
 *
 * Placement by figures: the cases of tests/cases/placement, and what no listing shows. */
#include "harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "fault.h"
#include "plugin/rules.h"
#include "plugin/split.h"

enum { MAX_PART = 2 * 128 + 2 };

typedef struct world {
    char name[PERI_SPLIT_DEVICES][32], title[80];
    peri_split_device device[PERI_SPLIT_DEVICES];
    uint32_t n_device, n_part;
    peri_split_part part[MAX_PART];
    bool is_tied;
    char rules[500];
} world;

static peri_status solve(const world *w, peri_split *s, peri_error *err) {
    uint8_t fixed[MAX_PART];
    peri_rules rules;
    const peri_split_task t = {.device = w->device,
                               .part = w->part,
                               .n_device = w->n_device,
                               .n_part = w->n_part,
                               .is_tied = w->is_tied,
                               .fixed = fixed};
    *s = (peri_split){0};
    peri_status st = peri_rules_parse(w->rules, &rules, err);
    if (!st) st = peri_rules_apply(&rules, (w->n_part - 2) / 2, fixed, err);
    if (st) return st;
    for (uint32_t i = 0; i < w->n_part; i++) {
        if (fixed[i] == PERI_RULE_FREE) continue;
        uint8_t d = 0;
        while (strcmp(w->name[d], rules.rule[fixed[i]].device) != 0)
            assert_true(++d < w->n_device);
        fixed[i] = d;
    }
    return peri_split_solve(&t, s, err);
}

/* KEY=NUMBER in a line of such, or what stands for it. */
static double number(const char *line, const char *key, double absent) {
    size_t n = strlen(key);
    for (const char *s = line; (s = strstr(s, key)) != NULL; s += n)
        if (s > line && s[-1] == ' ' && s[n] == '=') return strtod(s + n + 1, NULL);
    return absent;
}

static void read_model(world *w, const char *line) {
    uint32_t n_layer = (uint32_t)number(line, "layers", 1);
    double width = number(line, "width", 4096), used = number(line, "used", 1);
    bool is_whole = number(line, "whole", 0) != 0;
    assert_true(n_layer >= 1 && 2 * n_layer + 2 <= MAX_PART);
    w->n_part = 2 * n_layer + 2;
    w->is_tied = number(line, "tied", 0) != 0;
    memset(w->part, 0, sizeof w->part);
    w->part[0].bytes = (uint64_t)number(line, "embed", 0);
    w->part[0].token_bytes = (uint64_t)width;
    double experts = number(line, "experts", 0), kv = number(line, "kv", 0);
    for (uint32_t il = 0; il < n_layer; il++) {
        peri_split_part *p = &w->part[1 + 2 * il], *x = p + 1;
        p->bytes = p->token_bytes = (uint64_t)number(line, "dense", 0);
        p->kv_bytes = (uint64_t)kv;
        p->kv_token_bytes = (uint64_t)(kv / 2);
        peri_split_part *owner = is_whole ? p : x;
        owner->bytes += (uint64_t)experts;
        owner->token_bytes += (uint64_t)(experts * used);
        p->n_copy = !il || x[-2].bytes ? 1 : 2;
        p->copy_bytes = p->n_copy * (uint64_t)width;
        x->n_copy = 3;
        x->copy_bytes = (uint64_t)width + 64;
    }
    peri_split_part *head = &w->part[w->n_part - 1];
    head->bytes = head->token_bytes = (uint64_t)number(line, "head", 0);
    head->n_copy = 1;
    head->copy_bytes = (uint64_t)width;
}

static void read_device(world *w, const char *line) {
    assert_true(w->n_device < PERI_SPLIT_DEVICES);
    uint32_t d = w->n_device++;
    snprintf(w->name[d], sizeof w->name[d], "%.*s", (int)strcspn(line, " "), line);
    w->device[d] =
        (peri_split_device){.name = w->name[d],
                            .room = (uint64_t)number(line, "room", 0),
                            .gbps = number(line, "gbps", 0),
                            .copy_us = number(line, "copy_us", PERI_SPLIT_COPY_US),
                            .link_gbps = number(line, "link_gbps", PERI_SPLIT_LINK_GBPS)};
}

static void list(const world *w, const peri_split *s, peri_text *out) {
    const char *name[PERI_SPLIT_DEVICES];
    for (uint32_t d = 0; d < w->n_device; d++)
        name[d] = w->name[d];
    peri_split_describe(s, name, out);
    for (uint32_t d = 0; d < w->n_device; d++)
        peri_text_addf(out, "%s holds %.2f GB\n", name[d], (double)s->held[d] / 1e9);
    if (s->token_s > 0) peri_text_addf(out, "%.3g tokens/s, ", 1 / s->token_s);
    peri_text_addf(out, "%u copies\n", s->n_copy);
}

static void judge(const world *w, const char *path, const char *want) {
    peri_split s;
    peri_error err;
    peri_text found = {0};
    if (solve(w, &s, &err))
        peri_text_addf(&found, "error: %s\n", err.text);
    else
        list(w, &s, &found);
    assert_false(found.failed);
    for (uint32_t d = 0; d < w->n_device && s.device; d++)
        assert_true(s.held[d] <= w->device[d].room);
    if (strcmp(found.data, want) != 0)
        fail_msg("%s: case %s: found\n%sexpected\n%s", path, w->title, found.data, want);
    peri_split_fini(&s);
    peri_text_fini(&found);
}

static size_t read_cases(const char *path) {
    char line[500];
    size_t n = 0;
    world w = {0};
    peri_text want = {0};
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "case ", 5) == 0) {
            if (n++) judge(&w, path, want.data ? want.data : "");
            peri_text_fini(&want);
            w = (world){0};
            snprintf(w.title, sizeof w.title, "%.79s", line + 5);
        } else if (strncmp(line, "model ", 6) == 0) {
            read_model(&w, line);
        } else if (strncmp(line, "device ", 7) == 0) {
            read_device(&w, line + 7);
        } else if (strncmp(line, "rules ", 6) == 0) {
            snprintf(w.rules, sizeof w.rules, "%s", line + 6);
        } else if (strncmp(line, "> ", 2) == 0) {
            peri_text_addf(&want, "%s\n", line + 2);
        } else if (*line && *line != '#') {
            fail_msg("%s: a line that is not understood: %s", path, line);
        }
    }
    if (n) judge(&w, path, want.data ? want.data : "");
    peri_text_fini(&want);
    fclose(f);
    return n;
}

static void every_case_is_placed_as_written(void **state) {
    (void)state;
    char path[400];
    size_t n = 0;
    DIR *d = opendir(PERI_SOURCE_DIR "/tests/cases/placement");
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        size_t size = strlen(e->d_name);
        if (size < 5 || strcmp(e->d_name + size - 5, ".case") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", PERI_SOURCE_DIR "/tests/cases/placement", e->d_name);
        n += read_cases(path);
    }
    closedir(d);
    assert_true(n > 0);
}

/* The cheapest of all ways to put a short chain on two devices that have room for it. */
static double cheapest(const world *w, uint8_t *device) {
    double best = 1e300;
    for (uint32_t bits = 0; bits < 1u << w->n_part; bits++) {
        uint8_t way[MAX_PART];
        bool is_empty[MAX_PART] = {0};
        peri_split s = {.n_part = w->n_part, .n_device = 2, .device = way, .is_empty = is_empty};
        for (uint32_t i = 0; i < w->n_part; i++)
            way[i] = bits >> i & 1;
        peri_split_measure(w->device, w->part, &s);
        if (s.held[0] > w->device[0].room || s.held[1] > w->device[1].room) continue;
        if (s.token_s >= best) continue;
        best = s.token_s;
        memcpy(device, way, w->n_part);
    }
    return best;
}

static void short_chains_come_close_to_the_best_way(void **state) {
    (void)state;
    uint32_t random = 1;
    for (int round = 0; round < 200; round++) {
        world w = {0};
        uint8_t way[MAX_PART];
        char line[200];
        peri_split s;
        peri_error err;
        random = random * 1664525 + 1013904223;
        snprintf(line, sizeof line,
                 " layers=4 embed=10e6 head=50e6 dense=%ue6 kv=%ue6 experts=%ue6 used=0.25",
                 20 + random % 50, 1 + random / 64 % 20,
                 random / 256 % 2 ? 100 + random / 512 % 200 : 0);
        read_model(&w, line);
        snprintf(line, sizeof line, "a room=%ue6 gbps=%u copy_us=%u", 100 + random / 1024 % 600,
                 200 + random / 4096 % 800, 5 + random / 65536 % 50);
        read_device(&w, line);
        read_device(&w, "b room=10e9 gbps=50");
        assert_ok(solve(&w, &s, &err), err);
        double best = cheapest(&w, way);
        if (s.token_s > best * 1.25)
            fail_msg("round %d: %g s, the best way takes %g s", round, s.token_s, best);
        peri_split_fini(&s);
    }
}

static void failing_allocations_leave_clean_errors(void **state) {
    (void)state;
    world w = {0};
    read_model(&w, " layers=4 embed=10e6 head=50e6 dense=20e6 kv=1e6");
    read_device(&w, "a room=100e6 gbps=100");
    read_device(&w, "b room=1e9 gbps=50");
    peri_fault *f = peri_fault_alloc_install();
    peri_status st = PERI_E_NOMEM;
    for (uint64_t i = 1; st; i++) {
        peri_split s;
        peri_error err;
        *f = (peri_fault){.fail_at = i};
        st = solve(&w, &s, &err);
        assert_true(st == PERI_OK || st == PERI_E_NOMEM);
        peri_split_fini(&s);
        assert_int_equal(f->live, 0);
    }
    peri_fault_alloc_remove();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_is_placed_as_written),
        cmocka_unit_test(short_chains_come_close_to_the_best_way),
        cmocka_unit_test(failing_allocations_leave_clean_errors),
    };
    return peri_run_tests(tests);
}
