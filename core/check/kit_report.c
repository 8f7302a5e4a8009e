/* SPDX-License-Identifier: MIT
 *
 * kit_report.c - what the kit says to check.c: one line of JSON per event, on descriptor KIT_FD.
 *
 *   {"place":WHAT, "op":..., "type":..., "shape":...}    what runs next
 *   {"finding":TEXT, "op":..., ..., "row":..., "found":..., "expected":...}
 *   {"note":TEXT}      {"info":{...}}      {"checks":N} at the end of a stage that ended well
 *   {"ceiling":{...}}  {"speed":{...}}     {"unmeasured":{...}}      of --bench */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/status.h"
#include "check/report.h"
#include "model/dtype.h"

#include "base/compiler.h"

enum { FINDING_MAX = 20 }; /* of one stage: more teach nothing */

static int n_finding;
static long n_check;

void kit_send(json_t *line) {
    char *text = NULL;
    if (peri_json_dump(line, JSON_COMPACT, &text, NULL) != PERI_OK) _exit(4);
    json_decref(line);
    size_t n = strlen(text);
    text[n++] = '\n'; /* over the terminator */
    for (size_t at = 0; at < n;) {
        ssize_t put = write(KIT_FD, text + at, n - at);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) _exit(3); /* nobody listens any more */
        at += (size_t)put;
    }
    peri_free(text);
}

const char *kit_type_name(const kit_case *c) {
    return kit_dtype_at(c->shape, 1) < 0 ? "F32" : peri_dtype_get(c->dtype)->name;
}

static json_t *with_case(json_t *line, const kit_case *c) {
    if (!c) return line;
    json_object_set_new(line, "op", json_string(peri_op_name(c->shape->code)));
    json_object_set_new(line, "type", json_string(kit_type_name(c)));
    json_object_set_new(line, "shape", json_string(c->name));
    return line;
}

void kit_place(const char *what, const kit_case *c) {
    kit_send(with_case(json_pack("{s:s}", "place", what), c));
}

static json_t *text_line(const char *key, const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0)));
static json_t *text_line(const char *key, const char *fmt, va_list ap) {
    char raw[600], text[1200];
    vsnprintf(raw, sizeof raw, fmt, ap);
    peri_escape(text, sizeof text, raw);
    return json_pack("{s:s}", key, text);
}

void kit_note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    kit_send(text_line("note", fmt, ap));
    va_end(ap);
}

void kit_find(const kit_case *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    kit_send(with_case(text_line("finding", fmt, ap), c));
    va_end(ap);
    n_finding++;
}

/* As text when JSON has no such number. */
static json_t *number(double x) {
    char text[32];
    snprintf(text, sizeof text, "%s", isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
    return isfinite(x) ? json_real(x) : json_string(text);
}

void kit_find_at(const kit_case *c, const kit_spot *at, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    json_t *line = with_case(text_line("finding", fmt, ap), c);
    va_end(ap);
    json_object_set_new(line, "operand", json_integer(at->operand));
    json_object_set_new(line, "row", json_integer(at->row));
    json_object_set_new(line, "element", json_integer(at->element));
    json_object_set_new(line, "found", number(at->found));
    json_object_set_new(line, "expected", number(at->expected));
    kit_send(line);
    n_finding++;
}

bool kit_is_full(void) {
    return n_finding >= FINDING_MAX;
}

void kit_count(void) {
    n_check++;
}

void kit_finish(void) {
    kit_send(json_pack("{s:I}", "checks", (json_int_t)n_check));
}
