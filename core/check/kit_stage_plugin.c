/* SPDX-License-Identifier: MIT
 *
 * kit_stage_plugin.c - the stages about the plugin as such: what it says of its devices, whether
 * its answers can be relied on, and what it leaves behind. */
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "check/kit.h"
#include "check/report.h"
#include "model/dtype.h"

#include "base/compiler.h"

/* ---- the device
 * ----------------------------------------------------------------------------------- */

bool kit_open(kit_plugin *p) {
    peri_error e = {0};
    p->dev = NULL;
    kit_place("open", NULL);
    int32_t status = p->api.open(&kit_host, p->index, &p->dev, &e);
    e.text[sizeof e.text - 1] = 0;
    kit_count();
    if (status == PERI_OK && p->dev) return true;
    if (status == PERI_OK)
        kit_find(NULL, "open: success without a device");
    else
        kit_find(NULL, "open failed: %s (%s)", e.text, peri_status_name(status));
    return false;
}

void kit_close(kit_plugin *p) {
    kit_place("close", NULL);
    if (p->api.close) p->api.close(p->dev);
    p->dev = NULL;
}

static int count_threads(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    while (d && readdir(d))
        n++;
    if (d) closedir(d);
    return n;
}

void kit_stage_describe(kit_plugin *p) {
    int n_thread = count_threads();
    for (uint32_t i = 0; i <= PERI_PLUGIN_DEVICE_MAX; i++) {
        peri_dev_info first, second;
        peri_error e = {0};
        char what[32];
        snprintf(what, sizeof what, "device(%u)", i);
        kit_place(what, NULL);
        kit_count();
        peri_status status = peri_loader_device(&p->api, &kit_host, i, &first, &e);
        if (status == PERI_E_NO_DEVICE) break;
        if (status != PERI_OK) {
            kit_find(NULL, "device(%u): %s (%s)", i, e.text, peri_status_name(status));
            return;
        }
        if (i == PERI_PLUGIN_DEVICE_MAX) kit_find(NULL, "the device list has no end");
        status = peri_loader_device(&p->api, &kit_host, i, &second, &e);
        first.mem_free = second.mem_free; /* may change */
        if (status != PERI_OK || memcmp(&first, &second, sizeof first) != 0)
            kit_find(NULL, "device(%u): another answer when asked again", i);
    }
    if (kit_host_now.n_live)
        kit_find(NULL, "device() left %lld blocks of memory behind",
                 (long long)kit_host_now.n_live);
    if (count_threads() != n_thread && p->has_driver)
        kit_note("device() started %d threads: its driver's, it is assumed (rule R5)",
                 count_threads() - n_thread);
    else if (count_threads() != n_thread)
        kit_find(NULL, "device() left %d threads running", count_threads() - n_thread);
}

/* ---- supports
 * ------------------------------------------------------------------------------------- */

/* Per operation and type: on how many of the kit's shapes. */
typedef struct tally {
    const kit_shape *shape;
    uint16_t dtype;
    int n_yes, n_no;
    char numerics[28], why[88];
} tally;

enum { TALLY_MAX = 400 };
static tally tallies[TALLY_MAX];
static int n_tally;

static void count_answer(const kit_case *c, const peri_support *s) {
    int i = 0;
    while (i < n_tally &&
           (tallies[i].shape->code != c->shape->code || tallies[i].dtype != c->dtype))
        i++;
    if (i == TALLY_MAX) return;
    if (i == n_tally) tallies[n_tally++] = (tally){.shape = c->shape, .dtype = c->dtype};
    memcpy(s->yes ? tallies[i].numerics : tallies[i].why, s->yes ? s->numerics : s->why,
           s->yes ? sizeof s->numerics : sizeof s->why);
    *(s->yes ? &tallies[i].n_yes : &tallies[i].n_no) += 1;
}

static void report_answers(void) {
    for (int i = 0; i < n_tally; i++) {
        const tally *t = &tallies[i];
        char numerics[60], why[180];
        peri_escape(numerics, sizeof numerics, t->numerics);
        peri_escape(why, sizeof why, t->why);
        kit_send(json_pack("{s:{s:s,s:i,s:s,s:i,s:i,s:s,s:s}}", "operation", "op",
                           peri_op_name(t->shape->code), "level", peri_op_level(t->shape->code),
                           "type",
                           kit_dtype_at(t->shape, 1) < 0 ? "" : peri_dtype_get(t->dtype)->name,
                           "yes", t->n_yes, "no", t->n_no, "numerics", numerics, "why", why));
    }
}

static bool is_terminated(const kit_case *c, const peri_support *s) {
    if (memchr(s->numerics, 0, sizeof s->numerics) && memchr(s->why, 0, sizeof s->why)) return true;
    kit_find(c, "supports: a text that does not end within its array");
    return false;
}

/* Ask for shapes up to hi, twice. */
static bool ask_twice(kit_plugin *p, const kit_case *c, int32_t hi, peri_support *s) {
    peri_support again;
    peri_error e = {0};
    kit_numerics n;
    int32_t status = kit_case_ask(p, c, hi, s, &e);
    kit_count();
    e.text[sizeof e.text - 1] = 0;
    if (status != PERI_OK) {
        kit_find(c, "supports failed with %s (%s); no is an answer, not an error",
                 peri_status_name(status), e.text);
        return false;
    }
    if (!is_terminated(c, s)) return false;
    if (kit_case_ask(p, c, hi, &again, &e) != PERI_OK || !again.yes != !s->yes ||
        (s->yes && strcmp(again.numerics, s->numerics) != 0)) {
        kit_find(c, "supports: another answer when asked again (shapes up to %d)", (int)hi);
        return false;
    }
    if (!s->yes && !s->why[0]) kit_find(c, "supports: no without a reason");
    if (s->yes && !kit_numerics_parse(s->numerics, &n)) {
        kit_find(c, "supports: numerics \"%s\" are no class the kit knows (plugin.h, numerics)",
                 s->numerics);
        return false;
    }
    return s->yes || s->why[0];
}

/* Answers for three sizes, and a yes kept by run_op. */
static bool check_answers(kit_plugin *p, kit_case *c) {
    static const int32_t sizes[] = {64, 512, 4096};
    peri_support s;
    kit_result r;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (!ask_twice(p, c, sizes[i], &s)) return false;
        if (i == 0) count_answer(c, &s);
    }
    if (!s.yes) return true;
    kit_case_run(p, c, &r);
    bool is_kept = !r.is_refused;
    if (!is_kept) kit_find(c, "%s", r.text);
    kit_result_fini(&r);
    return is_kept;
}

/* A question whose only right answer is no. */
static void ask_nonsense(kit_plugin *p, const kit_shape *s, const char *what) {
    kit_case c;
    kit_want w = {.layout = 1};
    peri_support answer;
    peri_error e = {0};
    if (kit_case_init(&c, s, PERI_DT_F32, &w)) {
        kit_count();
        if (kit_case_ask(p, &c, 64, &answer, &e) == PERI_OK && answer.yes)
            kit_find(&c, "supports: yes to %s", what);
    }
    kit_case_fini(&c);
}

static void ask_all_nonsense(kit_plugin *p) {
    const kit_shape *s;
    for (size_t i = 0; (s = kit_shape_at(i)) != NULL; i++) {
        kit_shape odd = *s;
        peri_attn_attr attn;
        peri_linear_attr linear;
        if (!kit_op_is_wanted(p, s->code)) continue;
        if (s->code == PERI_OP_LINEAR) {
            linear = *(const peri_linear_attr *)s->attr;
            linear.flags |= 1u << 30;
            odd.attr = &linear;
            ask_nonsense(p, &odd, "flags that must be understood and do not exist");
            odd = *s;
            odd.code = 0x0eee;
            ask_nonsense(p, &odd, "an operation code that does not exist");
            return;
        }
        if (s->code != PERI_OP_ATTN) continue;
        attn = *(const peri_attn_attr *)s->attr;
        attn.flags |= 1u << 30;
        odd.attr = &attn;
        ask_nonsense(p, &odd, "flags that must be understood and do not exist");
    }
}

void kit_stage_supports(kit_plugin *p) {
    if (!kit_open(p)) return;
    kit_each_case(p, false, check_answers);
    ask_all_nonsense(p);
    report_answers();
    kit_close(p);
}

/* ---- lifecycle
 * ------------------------------------------------------------------------------------ */

/* OWN_BYTES, DRIVER_BYTES: of the C library's heap that a run may keep; a driver keeps pools of
 * events and commands that settle late (PoCL 3.1: 362 bytes a run at first, then less and less). */
enum { OWN_BYTES = 16, DRIVER_BYTES = 1024 };
enum { OPENINGS = 20, WARM_RUNS = 10, RUNS = 32, FAILURES_MAX = 24 };

bool kit_is_clean(const char *when) {
    if (kit_host_now.n_overrun)
        kit_find(NULL, "%s: wrote past the end of %lld blocks of host->alloc", when,
                 (long long)kit_host_now.n_overrun);
    if (kit_host_now.n_live)
        kit_find(NULL, "%s: %lld blocks of host->alloc were not given back", when,
                 (long long)kit_host_now.n_live);
    return !kit_host_now.n_overrun && !kit_host_now.n_live;
}

/* Bytes of the C library's heap in use; constant under a sanitizer's heap. */
static size_t heap_bytes(void) {
    return mallinfo2().uordblks;
}

/* It must show three times in a row: a driver's threads may be late giving back what a run has
 * used, and what the C library keeps for the next request of its size counts as used. */
size_t kit_heap_growth(kit_plugin *p, void (*run)(void *user), void *user) {
    size_t limit = RUNS * (p->has_driver ? DRIVER_BYTES : OWN_BYTES), kept = limit;
    for (int i = 0; i < 3 && kept >= limit; i++) {
        size_t before = heap_bytes();
        for (int k = 0; k < RUNS; k++)
            run(user);
        size_t after = heap_bytes();
        kept = after > before ? after - before : 0;
    }
    return kept >= limit ? kept : 0;
}

typedef struct steady {
    kit_plugin *p;
    kit_case *c;
} steady;

static void run_case(void *user) {
    steady *s = user;
    kit_result r;
    kit_case_run(s->p, s->c, &r);
    kit_result_fini(&r);
}

/* The first shape of every operation and type: after warming up, a run takes no memory and keeps
 * none. */
static bool check_steady(kit_plugin *p, kit_case *c) {
    kit_result r;
    bool is_good = true;
    for (int i = 0; i < WARM_RUNS && is_good; i++) {
        kit_case_run(p, c, &r);
        is_good = r.outcome == KIT_RAN;
        kit_result_fini(&r);
    }
    if (!is_good) return true; /* other stages say why */
    int64_t n_alloc = kit_host_now.n_alloc, n_live = kit_host_now.n_live;
    size_t kept = kit_heap_growth(p, run_case, &(steady){p, c});
    if (kit_host_now.n_live > n_live)
        kit_find(c, "keeps memory with every run: %lld blocks after %d runs",
                 (long long)(kit_host_now.n_live - n_live), RUNS);
    else if (kit_host_now.n_alloc != n_alloc)
        kit_find(c, "takes memory in the steady state: %lld times in %d runs",
                 (long long)(kit_host_now.n_alloc - n_alloc), RUNS);
    else if (kept)
        kit_find(c, "keeps memory of the C library with every run: %zu bytes after %d runs", kept,
                 RUNS);
    else
        return true;
    return false;
}

/* The n-th allocation fails: an error, no crash, nothing left behind. */
static bool run_without_memory(kit_plugin *p, int64_t n) {
    peri_error e = {0};
    kit_host_now.n_alloc = 0;
    kit_host_now.fail_at = n;
    kit_place("open, while host->alloc fails", NULL);
    int32_t status = p->api.open(&kit_host, p->index, &p->dev, &e);
    bool is_open = status == PERI_OK && p->dev;
    const kit_shape *s;
    for (size_t i = 0; is_open && (s = kit_shape_at(i)) != NULL; i++) {
        kit_case c;
        kit_want w = {.layout = 1};
        kit_result r = {0};
        if (!kit_op_is_wanted(p, s->code)) continue;
        if (kit_case_init(&c, s, PERI_DT_F32, &w) &&
            !(p->is_small && kit_case_macs(&c) > KIT_SMALL))
            kit_case_run(p, &c, &r);
        kit_result_fini(&r);
        kit_case_fini(&c);
    }
    bool has_failed = kit_host_now.n_alloc >= n;
    kit_host_now.fail_at = 0;
    if (is_open) kit_close(p);
    if (!has_failed) return false;
    return kit_is_clean("after host->alloc had failed");
}

void kit_stage_lifecycle(kit_plugin *p) {
    for (int i = 0; i < OPENINGS; i++) {
        if (!kit_open(p)) return;
        kit_close(p);
        if (!kit_is_clean("after close")) return;
    }
    if (!kit_open(p)) return;
    kit_check_buffers(p);
    kit_each_case(p, false, check_steady);
    kit_close(p);
    if (!kit_is_clean("after operations and close")) return;
    for (int64_t n = 1; n <= FAILURES_MAX && run_without_memory(p, n); n++)
        kit_count();
}
