/* SPDX-License-Identifier: MIT
 *
 * edit.c - the line editor on libedit: prompt, history, completion (line.h).
 *
 * Bytes come from peri_line_byte, so that Ctrl-C, a resized window and a return from the background
 * reach the editor without its own signal handlers (which would signal the whole process group).
 * History is a file of lines, appended to as they are entered, so that programs side by side do not
 * overwrite each other's; when it has grown to twice the limit, the newest half is kept. */
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "line.h"
#include "out.h"
#include "target.h"

enum { MAX_HISTORY = 1000, CTRL_D = 4 };

static struct editor {
    EditLine *el;
    History *history;
    HistEvent event;
    const char *prompt;
    char *line; /* what was returned last */
    char *path; /* of the history file; NULL: nothing is kept */
    bool was_interrupted;
} ed;

/* ---- the history file ---------------------------------------------------------------------------
 */

/* "STATE/perigee/history", its folders made; NULL when there is no home or no folder can be made.
 */
static char *history_path(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    int n = -1;
    if (state && state[0] == '/')
        n = asprintf(&path, "%s/perigee/history", state);
    else if (home && home[0] == '/')
        n = asprintf(&path, "%s/.local/state/perigee/history", home);
    if (n < 0) return NULL;
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        bool ok = mkdir(path, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!ok) {
            free(path);
            return NULL;
        }
    }
    return path;
}

static int open_history(int flags) {
    int fd = open(ed.path, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && fchmod(fd, 0600) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void stop_history(void) {
    peri_out_note("%s: %s; what you type is not kept", ed.path, strerror(errno));
    free(ed.path);
    ed.path = NULL;
}

static void append_history(const char *line) {
    char *text = NULL;
    if (ed.path == NULL || asprintf(&text, "%s\n", line) < 0) return;
    int fd = open_history(O_WRONLY | O_APPEND);
    ssize_t n = (ssize_t)strlen(text);
    if (fd < 0 || write(fd, text, (size_t)n) != n) stop_history();
    if (fd >= 0) close(fd);
    free(text);
}

/* Replace the file by `text`. */
static void shorten_history(const char *text) {
    char *other = NULL;
    if (asprintf(&other, "%s.new", ed.path) < 0) return;
    int fd = open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        size_t n = strlen(text);
        bool ok = write(fd, text, n) == (ssize_t)n;
        close(fd);
        if (!ok || rename(other, ed.path) != 0) unlink(other);
    }
    free(other);
}

static size_t count_lines(const char *text) {
    size_t n = 0;
    for (; (text = strchr(text, '\n')); text++)
        n++;
    return n;
}

/* The newest MAX_HISTORY lines into the editor. */
static void load_history(void) {
    char *text = NULL;
    size_t size = 0;
    int fd = ed.path ? open_history(O_RDWR) : -1;
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    if (f == NULL) {
        if (ed.path) stop_history();
        return;
    }
    if (peri_read_all(f, ed.path, &text, &size)) {
        size_t n_line = count_lines(text);
        char *line = text, *end;
        for (size_t i = n_line; i > MAX_HISTORY; i--)
            line = strchr(line, '\n') + 1;
        if (n_line > 2 * MAX_HISTORY) shorten_history(line);
        for (; (end = strchr(line, '\n')); line = end + 1) {
            *end = 0;
            history(ed.history, &ed.event, H_ENTER, line);
        }
    }
    free(text);
    fclose(f);
}

/* ---- input --------------------------------------------------------------------------------------
 */

/* The rest of the UTF-8 character that begins with `first`; U+FFFD for what is none. */
static wchar_t character(int first) {
    int n = first < 0xc0 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf8 ? 3 : 0;
    wchar_t c = n == 0 ? 0xfffd : first & (0x3f >> n);
    for (; n > 0; n--) {
        int next = peri_line_byte();
        if (next < 0x80 || next > 0xbf) return 0xfffd;
        c = (wchar_t)(c << 6 | (next & 0x3f));
    }
    return c;
}

static void redraw(EditLine *el) {
    el_set(el, EL_PREP_TERM, 0); /* raw again: the shell has changed the mode meanwhile */
    el_set(el, EL_PREP_TERM, 1);
    el_set(el, EL_REFRESH);
}

static bool is_line_empty(EditLine *el) {
    const LineInfo *info = el_line(el);
    return info->buffer == info->lastchar;
}

/* libedit's reader: 1 and a character, 0 at the end, -1 to give the line up. */
static int get_char(EditLine *el, wchar_t *to) {
    for (;;) {
        int c = peri_line_byte();
        if (c == PERI_BYTE_EOF) return 0;
        if (c == PERI_BYTE_INTERRUPTED) {
            ed.was_interrupted = true;
            return -1;
        }
        if (c == PERI_BYTE_RESIZED) {
            el_resize(el);
        } else if (c == PERI_BYTE_CONTINUED) {
            redraw(el);
        } else {
            /* Ctrl-D typed while the terminal was in its line mode has become NUL. */
            if (c == 0 && is_line_empty(el)) c = CTRL_D;
            *to = c < 0x80 ? (wchar_t)c : character(c);
            return 1;
        }
    }
}

/* ---- completion ---------------------------------------------------------------------------------
 */

/* The commands of scripts/perigee/cli/repl.lua; tests/e2e/repl.py compares. */
static const char *const commands[] = {"/bye",    "/clear",  "/fork",   "/help", "/list", "/load",
                                       "/reload", "/retry",  "/rewind", "/save", "/set",  "/show",
                                       "/stats",  "/switch", "/system", "/tools"};
enum { N_COMMAND = sizeof commands / sizeof commands[0] };

/* How far all commands that begin with word[n] agree; *n_match counts them. */
static size_t common_start(const char *word, size_t n, const char **first, size_t *n_match) {
    size_t same = 0;
    *n_match = 0;
    for (int i = 0; i < N_COMMAND; i++) {
        if (strncmp(commands[i], word, n) != 0) continue;
        if ((*n_match)++ == 0) {
            *first = commands[i];
            same = strlen(commands[i]);
        }
        size_t k = 0;
        while (k < same && commands[i][k] == (*first)[k])
            k++;
        same = k;
    }
    return same;
}

static void list_commands(const char *word, size_t n) {
    putchar('\n');
    for (int i = 0; i < N_COMMAND; i++)
        if (strncmp(commands[i], word, n) == 0) printf("%s  ", commands[i]);
    putchar('\n');
    fflush(stdout);
}

static unsigned char complete(EditLine *el, int c) {
    const LineInfo *info = el_line(el);
    size_t n = (size_t)(info->cursor - info->buffer), n_match;
    const char *first = NULL;
    if (n == 0 || info->buffer[0] != '/') return el_insertstr(el, "\t") ? CC_ERROR : CC_REFRESH;
    if (memchr(info->buffer, ' ', n)) return _el_fn_complete(el, c);
    size_t same = common_start(info->buffer, n, &first, &n_match);
    if (n_match == 0) return CC_REFRESH_BEEP;
    if (same == n && n_match > 1) {
        list_commands(info->buffer, n);
        return CC_REDISPLAY;
    }
    char rest[16];
    snprintf(rest, sizeof rest, "%.*s%s", (int)(same - n), first + n, n_match == 1 ? " " : "");
    return el_insertstr(el, rest) ? CC_ERROR : CC_REFRESH;
}

/* ---- the editor ---------------------------------------------------------------------------------
 */

static char *show_prompt(EditLine *el) {
    static char shown[64];
    (void)el;
    snprintf(shown, sizeof shown, "%s", ed.prompt);
    return shown;
}

static void bind_keys(EditLine *el) {
    static const char *const keys[][2] = {
        {"^I", "perigee-complete"},        {"^R", "em-inc-search-prev"},
        {"\\e[3~", "ed-delete-next-char"}, {"\\e[H", "ed-move-to-beg"},
        {"\\e[F", "ed-move-to-end"},       {"\\e[1~", "ed-move-to-beg"},
        {"\\e[4~", "ed-move-to-end"},      {"\\e[1;5D", "ed-prev-word"},
        {"\\e[1;5C", "em-next-word"},      {"^W", "ed-delete-prev-word"},
    };
    el_set(el, EL_EDITOR, "emacs");
    el_wset(el, EL_ADDFN, L"perigee-complete", L"Complete a command or a file name", complete);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
}

static bool open_editor(void) {
    ed.history = history_init();
    ed.el = el_init("perigee", stdin, stdout, stderr);
    if (ed.history == NULL || ed.el == NULL) {
        peri_out_fail("the line editor cannot be set up");
        return false;
    }
    ed.path = history_path();
    history(ed.history, &ed.event, H_SETSIZE, MAX_HISTORY);
    history(ed.history, &ed.event, H_SETUNIQUE, 1);
    el_set(ed.el, EL_SIGNAL, 0);
    el_set(ed.el, EL_HIST, history, ed.history);
    el_set(ed.el, EL_PROMPT, show_prompt);
    el_set(ed.el, EL_GETCFN, get_char);
    bind_keys(ed.el);
    el_source(ed.el, NULL);
    load_history();
    return true;
}

void peri_edit_close(void) {
    if (ed.el) el_end(ed.el);
    if (ed.history) history_end(ed.history);
    free(ed.line);
    free(ed.path);
    memset(&ed, 0, sizeof ed);
}

/* What libedit returned, kept and without its newline. */
static peri_line_end take_line(const char *text, size_t n) {
    if (n && text[n - 1] == '\n') n--;
    free(ed.line);
    ed.line = strndup(text, n);
    if (ed.line == NULL) {
        peri_out_fail("out of memory for a line of %zu bytes", n);
        return PERI_LINE_FAILED;
    }
    if (ed.line[strspn(ed.line, " \t")]) {
        history(ed.history, &ed.event, H_ENTER, ed.line);
        if (peri_line_is_kept()) append_history(ed.line);
    }
    return PERI_LINE_OK;
}

peri_line_end peri_edit_read(const char *prompt, const char **line) {
    int n = 0;
    if (ed.el == NULL && !open_editor()) return PERI_LINE_FAILED;
    ed.prompt = prompt;
    ed.was_interrupted = false;
    fflush(stdout);
    el_set(ed.el, EL_PREP_TERM, 1); /* before the prompt: nothing that answers it is lost */
    const char *text = el_gets(ed.el, &n);
    if (ed.was_interrupted) {
        fputs("^C\n", stdout);
        fflush(stdout);
        return PERI_LINE_INTERRUPTED;
    }
    if (text == NULL || n <= 0) {
        fputc('\n', stdout);
        fflush(stdout);
        return PERI_LINE_EOF;
    }
    peri_line_end end = take_line(text, (size_t)n);
    *line = ed.line;
    return end;
}
