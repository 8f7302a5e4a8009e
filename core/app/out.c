/* SPDX-License-Identifier: MIT
 *
 * out.c - printing (out.h): diagnostics, untrusted text, JSON members, tables, and the end of
 * stdout.
 *
 * SIGPIPE only leaves a mark while the program works, so that a vanished reader is seen as a failed
 * write and everything is released; peri_out_finish then ends the process the way SIGPIPE would
 * have. */
#include "out.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double peri_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- untrusted text -----------------------------------------------------------------------------
 */

/* Bytes of the well-formed UTF-8 character at s, its number in *cp; 0 when there is none. */
static size_t character(const unsigned char *s, size_t n, uint32_t *cp) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 4;
    if (len == 1) {
        *cp = s[0];
        return 1;
    }
    if (s[0] < 0xc0 || s[0] > 0xf7 || len > n) return 0;
    *cp = s[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        *cp = *cp << 6 | (s[i] & 0x3fu);
    }
    bool is_valid = *cp >= least[len] && *cp <= 0x10ffff && (*cp < 0xd800 || *cp > 0xdfff);
    return is_valid ? len : 0;
}

/* Control characters and the marks that reorder text on a terminal. */
static bool is_steering(uint32_t cp) {
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x200e || cp == 0x200f ||
           (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

void peri_out_untrusted(FILE *to, const char *data, size_t size, bool keep_lines) {
    const unsigned char *s = (const unsigned char *)data;
    for (size_t i = 0; i < size;) {
        uint32_t cp = 0;
        size_t n = character(s + i, size - i, &cp);
        bool is_kept = n && (!is_steering(cp) || (keep_lines && (cp == '\n' || cp == '\t')));
        if (n == 0) n = 1;
        if (is_kept)
            fwrite(s + i, 1, n, to);
        else
            for (size_t k = 0; k < n; k++)
                fprintf(to, "\\x%02x", s[i + k]);
        i += n;
    }
}

void peri_out_text(const char *data, size_t size) {
    if (isatty(STDOUT_FILENO))
        peri_out_untrusted(stdout, data, size, true);
    else
        fwrite(data, 1, size, stdout);
}

/* ---- diagnostics --------------------------------------------------------------------------------
 */

static void say(const char *fmt, va_list ap) {
    char line[4096];
    vsnprintf(line, sizeof line, fmt, ap);
    fflush(stdout); /* what was printed before comes before */
    fputs("perigee: ", stderr);
    peri_out_untrusted(stderr, line, strlen(line), false);
    fputc('\n', stderr);
}

int peri_out_fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
    return 1;
}

int peri_out_error(const peri_error *err) {
    const char *text = err->text[0] ? err->text : peri_status_text(err->code);
    return peri_out_fail("%s", text);
}

void peri_out_note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

/* ---- the end of stdout --------------------------------------------------------------------------
 */

static volatile sig_atomic_t reader_left;

static void on_pipe(int number) {
    (void)number;
    reader_left = 1;
}

void peri_out_start(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_pipe;
    a.sa_flags = SA_RESTART;
    sigemptyset(&a.sa_mask);
    sigaction(SIGPIPE, &a, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is a failed write as well */
}

bool peri_out_has_failed(void) {
    return ferror(stdout) != 0;
}

int peri_out_finish(int status) {
    int error = 0;
    if (ferror(
            stdout)) { /* a write failed earlier and its reason is gone: write again to learn it */
        clearerr(stdout);
        error = fputc('\n', stdout) == EOF || fflush(stdout) != 0 ? errno : EIO;
    } else if (fflush(stdout) != 0) {
        error = errno;
    }
    if (fclose(stdout) != 0 && error == 0) error = errno;
    if (error == 0) return status;
    if (reader_left) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    return peri_out_fail("cannot write the output: %s", strerror(error));
}

/* ---- JSON ---------------------------------------------------------------------------------------
 */

void peri_out_json(const char *text) {
    size_t n = strlen(text);
    fputs(text, stdout);
    if (n == 0 || text[n - 1] != '\n') fputc('\n', stdout);
}

json_t *peri_out_parse(const char *what, const char *text) {
    json_error_t e;
    json_t *j = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
    if (j == NULL) peri_out_fail("%s: line %d column %d: %s", what, e.line, e.column, e.text);
    return j;
}

void peri_json_free(char *text) {
    json_free_t release = NULL;
    json_get_alloc_funcs(NULL, &release);
    if (text) release(text);
}

const char *peri_json_text(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

double peri_json_number(const json_t *o, const char *key, double fallback) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

const char *peri_json_show(const json_t *v, char *buf, size_t n) {
    buf[0] = 0;
    if (json_is_string(v)) {
        snprintf(buf, n, "%s", json_string_value(v));
    } else if (json_is_integer(v)) {
        snprintf(buf, n, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    } else if (json_is_real(v)) {
        double x = json_real_value(v); /* as short as a float of that value can be written */
        for (int digits = 1; digits <= 9; digits++) {
            snprintf(buf, n, "%.*g", digits, x);
            if ((float)strtod(buf, NULL) == (float)x) break;
        }
    } else if (json_is_boolean(v)) {
        snprintf(buf, n, "%s", json_is_true(v) ? "yes" : "no");
    } else if (json_is_array(v) || json_is_object(v)) {
        char *text = json_dumps(v, JSON_REAL_PRECISION(9));
        snprintf(buf, n, "%s", text ? text : "");
        peri_json_free(text);
    }
    return buf;
}

const char *peri_bytes_show(double bytes, char *buf, size_t n) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int i = 0;
    for (; bytes >= 1024 && i < 5; i++)
        bytes /= 1024;
    snprintf(buf, n, i == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, unit[i]);
    return buf;
}

/* ---- tables -------------------------------------------------------------------------------------
 */

struct peri_table {
    size_t n_column, n_cell, room;
    char **cell; /* [n_row][n_column]; the heads are row 0 */
    bool failed; /* out of memory: rows are missing */
};

static void add_cell(peri_table *t, char *text) {
    if (t->n_cell == t->room) {
        size_t room = t->room * 2 + 64;
        char **grown = realloc(t->cell, room * sizeof *grown);
        if (grown == NULL) {
            free(text);
            t->failed = true;
            return;
        }
        t->cell = grown;
        t->room = room;
    }
    t->cell[t->n_cell++] = text;
}

void peri_table_row(peri_table *t) {
    while (t->n_cell % t->n_column && !t->failed)
        add_cell(t, NULL);
}

void peri_table_cell(peri_table *t, const char *fmt, ...) {
    char plain[2048], *text = NULL;
    size_t size = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(plain, sizeof plain, fmt, ap);
    va_end(ap);
    if (t->failed) return;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL) {
        t->failed = true;
        return;
    }
    peri_out_untrusted(f, plain, strlen(plain), false);
    fclose(f);
    add_cell(t, text);
}

peri_table *peri_table_new(size_t n_column, const char *const *heads) {
    peri_table *t = calloc(1, sizeof *t);
    if (t == NULL) return NULL;
    t->n_column = n_column;
    for (size_t i = 0; i < n_column; i++)
        peri_table_cell(t, "%s", heads[i]);
    return t;
}

/* Characters, not bytes: continuation bytes take no column. */
static int width_of(const char *s) {
    int n = 0;
    for (; s && *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

/* One row from its first cell on; nothing is printed after its last text. */
static void print_row(const peri_table *t, size_t first, const int *width, unsigned right) {
    size_t n = t->n_column;
    while (n && (t->cell[first + n - 1] == NULL || t->cell[first + n - 1][0] == 0))
        n--;
    for (size_t c = 0; c < n; c++) {
        const char *text = t->cell[first + c] ? t->cell[first + c] : "";
        int pad = width[c] - width_of(text);
        bool is_right = right >> c & 1;
        if (is_right) printf("%*s", pad, "");
        fputs(text, stdout);
        if (!is_right && c + 1 < n) printf("%*s", pad, "");
        if (c + 1 < n) fputs("  ", stdout);
    }
    putchar('\n');
}

void peri_table_print(peri_table *t, int indent, unsigned right) {
    if (t == NULL) {
        peri_out_fail("out of memory");
        return;
    }
    peri_table_row(t);
    int *width = calloc(t->n_column, sizeof *width);
    if (width == NULL || t->failed) {
        peri_out_fail("out of memory");
    } else {
        for (size_t i = 0; i < t->n_cell; i++) {
            int w = width_of(t->cell[i]);
            if (w > width[i % t->n_column]) width[i % t->n_column] = w;
        }
        for (size_t i = 0; i + t->n_column <= t->n_cell; i += t->n_column) {
            printf("%*s", indent, "");
            print_row(t, i, width, right);
        }
    }
    for (size_t i = 0; i < t->n_cell; i++)
        free(t->cell[i]);
    free(t->cell);
    free(width);
    free(t);
}
