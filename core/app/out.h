/* SPDX-License-Identifier: MIT
 *
 * out.h - everything the program prints: results on stdout, diagnostics on stderr.
 *
 * Text that comes from a model file or a model goes through peri_out_text or peri_out_untrusted:
 * control characters, which could steer a terminal, are shown as \xNN. */
#ifndef PERI_APP_OUT_H
#define PERI_APP_OUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "perigee/types.h"

/* "perigee: MESSAGE" on stderr, control characters shown.  Returns 1, the exit status of errors. */
int peri_out_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same for an error of the library. */
int peri_out_error(const peri_error *err);
/* The same without a status: something worth saying. */
void peri_out_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Text with control characters shown as \xNN; keep_lines lets newlines and tabs through. */
void peri_out_untrusted(FILE *to, const char *data, size_t size, bool keep_lines);
/* To stdout: as it is, or like peri_out_untrusted with kept lines when stdout is a terminal. */
void peri_out_text(const char *data, size_t size);
/* Call first: from here on a vanished reader of stdout is a failed write and no signal. */
void peri_out_start(void);
/* Has writing to stdout failed? */
bool peri_out_has_failed(void);
/* Flush and close stdout.  Returns `status`, or 1 after saying that output could not be written.  A
 * reader that went away (EPIPE) ends the process as SIGPIPE would have. */
int peri_out_finish(int status);

/* Print a JSON text of the library with a final newline. */
void peri_out_json(const char *text);
/* Parse a JSON text of the library; NULL after an error was reported. */
json_t *peri_out_parse(const char *what, const char *text);
/* Free what json_dumps returned: jansson's memory is the library's (json_set_alloc_funcs). */
void peri_json_free(char *text);
/* Members that may be missing: text or "", number or `fallback`; numbers that are texts and the
 * like count as missing. */
const char *peri_json_text(const json_t *o, const char *key);
double peri_json_number(const json_t *o, const char *key, double fallback);
/* A scalar as text in buf: numbers as short as single precision needs, null and absent "". */
const char *peri_json_show(const json_t *v, char *buf, size_t n);
/* "1.5 GiB" */
const char *peri_bytes_show(double bytes, char *buf, size_t n);

/* A table: columns as wide as their widest cell, the last one free.  Cells are untrusted. */
typedef struct peri_table peri_table;
peri_table *peri_table_new(size_t n_column, const char *const *heads); /* NULL when out of memory */
/* Starts a row, or fills its next cell. */
void peri_table_row(peri_table *t);
void peri_table_cell(peri_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints, indented, and frees.  right: bit i set = column i is flush right. */
void peri_table_print(peri_table *t, int indent, unsigned right);

/* Monotonic time in seconds. */
double peri_now(void);

#endif
