/* SPDX-License-Identifier: MIT
 *
 * line.h - lines from stdin: edited and remembered on a terminal, plain otherwise.
 *
 * Any thread may read, one at a time: the next one waits.  Start and stop belong to the main
 * thread, before the first and after the last read.  line.c owns waiting, signals and plain
 * reading; edit.c is the editor on libedit, left out where the build found none. */
#ifndef PERI_APP_LINE_H
#define PERI_APP_LINE_H

#include <stdbool.h>
#include <stddef.h>

typedef enum peri_line_end {
    PERI_LINE_OK,
    PERI_LINE_EOF,         /* the end of input, or Ctrl-D at an empty prompt */
    PERI_LINE_INTERRUPTED, /* Ctrl-C */
    PERI_LINE_FAILED       /* reported */
} peri_line_end;

/* Take over the signals that concern a terminal being read.  False after an error was reported. */
bool peri_line_start(void);
/* Give back memory, signals and the terminal's mode.  Harmless without a start. */
void peri_line_stop(void);

/* One line without its newline; *line is borrowed until the next call and UTF-8 on a terminal.  The
 * prompt is shown only on a terminal.  want_edit: with the editor, its history and completion where
 * there is one; else plainly, the prompt on stderr. */
peri_line_end peri_line_read(const char *prompt, bool want_edit, const char **line);

/* Are lines read from now on to be kept in the history file?  Any thread. */
void peri_line_keep(bool is_kept);
bool peri_line_is_kept(void);

/* Async-signal-safe: ends the read that waits, as interrupted.  False when nothing reads. */
bool peri_line_interrupt(void);

/* ---- between line.c and edit.c ------------------------------------------------------------------
 */
enum {
    PERI_BYTE_EOF = -1,
    PERI_BYTE_INTERRUPTED = -2,
    PERI_BYTE_RESIZED = -3,
    PERI_BYTE_CONTINUED = -4
};
/* The next byte of stdin, or one of these. */
int peri_line_byte(void);
/* Like peri_line_read on a terminal.  The first call reads the history file. */
peri_line_end peri_edit_read(const char *prompt, const char **line);
void peri_edit_close(void);

#endif
