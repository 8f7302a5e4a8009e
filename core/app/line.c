/* SPDX-License-Identifier: MIT
 *
 * line.c - waiting for stdin and for signals at once, and plain reading (line.h).
 *
 * Handlers of signals write one letter into a pipe that every wait for input watches too: so Ctrl-C
 * ends a read on whichever thread the kernel runs the handler.  A signal that ends the process puts
 * the terminal back first, since the editor may have it in its raw mode. */
#include "line.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "out.h"

static struct state {
    bool is_started, is_tty, told;
    int wake[2]; /* pipe: the letters I, W, C */
    unsigned char ahead[4096];
    size_t at, n; /* bytes of `ahead` used, and held */
    char *line;   /* [room] of the plain reader */
    size_t room;
    struct termios cooked;
    struct sigaction before[8];
} state;
static volatile sig_atomic_t is_reading;
static atomic_bool is_history_off;
static pthread_mutex_t reading =
    PTHREAD_MUTEX_INITIALIZER; /* guards all but `wake` while a line is read */

void peri_line_keep(bool is_kept) {
    atomic_store(&is_history_off, !is_kept);
}

bool peri_line_is_kept(void) {
    return !atomic_load(&is_history_off);
}

/* ---- signals ------------------------------------------------------------------------------------
 */

static const int watched[] = {SIGWINCH, SIGCONT, SIGTERM, SIGHUP, SIGQUIT};
enum { N_WATCHED = sizeof watched / sizeof watched[0] };

static void send(char letter) {
    int error = errno;
    ssize_t n = write(state.wake[1], &letter, 1); /* a full pipe wakes as well */
    (void)n;
    errno = error;
}

static void on_signal(int number) {
    if (number == SIGWINCH || number == SIGCONT) {
        send(number == SIGWINCH ? 'W' : 'C');
        return;
    }
    tcsetattr(STDIN_FILENO, TCSANOW, &state.cooked);
    signal(number, SIG_DFL);
    raise(number);
}

bool peri_line_interrupt(void) {
    if (!is_reading) return false;
    send('I');
    return true;
}

/* Text is UTF-8 throughout, so the editor needs a locale that says so. */
static void set_locale(void) {
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
}

bool peri_line_start(void) {
    if (pipe2(state.wake, O_CLOEXEC | O_NONBLOCK) != 0) {
        peri_out_fail("cannot make a pipe: %s", strerror(errno));
        return false;
    }
    state.is_started = true;
    state.is_tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &state.cooked) == 0;
    if (!state.is_tty) return true;
    set_locale();
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_signal;
    a.sa_flags = SA_RESTART;
    sigfillset(&a.sa_mask);
    for (int i = 0; i < N_WATCHED; i++)
        sigaction(watched[i], &a, &state.before[i]);
    return true;
}

void peri_line_stop(void) {
    if (!state.is_started) return;
    peri_edit_close();
    if (state.is_tty)
        for (int i = 0; i < N_WATCHED; i++)
            sigaction(watched[i], &state.before[i], NULL);
    close(state.wake[0]);
    close(state.wake[1]);
    free(state.line);
    memset(&state, 0, sizeof state);
}

/* ---- bytes --------------------------------------------------------------------------------------
 */

static int take_letter(void) {
    char letter = 0;
    if (read(state.wake[0], &letter, 1) != 1) return 0;
    return letter == 'I'   ? PERI_BYTE_INTERRUPTED
           : letter == 'W' ? PERI_BYTE_RESIZED
                           : PERI_BYTE_CONTINUED;
}

int peri_line_byte(void) {
    while (state.at == state.n) {
        struct pollfd fd[2] = {{.fd = state.wake[0], .events = POLLIN},
                               {.fd = STDIN_FILENO, .events = POLLIN}};
        if (poll(fd, 2, -1) < 0) continue; /* EINTR: the pipe tells */
        int letter = fd[0].revents ? take_letter() : 0;
        if (letter) return letter;
        if (fd[1].revents == 0) continue;
        ssize_t n = read(STDIN_FILENO, state.ahead, sizeof state.ahead);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return PERI_BYTE_EOF;
        state.at = 0;
        state.n = (size_t)n;
    }
    return state.ahead[state.at++];
}

/* ---- plain lines --------------------------------------------------------------------------------
 */

static bool put(size_t at, char c) {
    if (at == state.room) {
        size_t room = state.room * 2 + 256;
        char *grown = realloc(state.line, room);
        if (grown == NULL) {
            peri_out_fail("out of memory for a line of %zu bytes", at);
            return false;
        }
        state.line = grown;
        state.room = room;
    }
    state.line[at] = c;
    return true;
}

static peri_line_end read_plain(const char **line) {
    size_t n = 0;
    int c;
    while ((c = peri_line_byte()) != '\n') {
        if (c == PERI_BYTE_EOF && n == 0) return PERI_LINE_EOF;
        if (c == PERI_BYTE_EOF) break;
        if (c == PERI_BYTE_INTERRUPTED) return PERI_LINE_INTERRUPTED;
        if (c < 0) continue;
        if (c == 0) {
            peri_out_fail("stdin holds a NUL byte: this is no text");
            return PERI_LINE_FAILED;
        }
        if (!put(n, (char)c)) return PERI_LINE_FAILED;
        n++;
    }
    if (!put(n, 0)) return PERI_LINE_FAILED;
    *line = state.line;
    return PERI_LINE_OK;
}

static peri_line_end read_prompted(const char *prompt, const char **line) {
    if (state.is_tty) {
        peri_out_untrusted(stderr, prompt, strlen(prompt), true);
        fflush(stderr);
    }
    peri_line_end end = read_plain(line);
    if (state.is_tty && end != PERI_LINE_OK) fputc('\n', stderr);
    return end;
}

#ifndef PERI_HAVE_LIBEDIT
peri_line_end peri_edit_read(const char *prompt, const char **line) {
    if (!state.told) peri_out_note("lines cannot be edited or recalled: this build has no libedit");
    state.told = true;
    return read_prompted(prompt, line);
}

void peri_edit_close(void) {
}
#endif

peri_line_end peri_line_read(const char *prompt, bool want_edit, const char **line) {
    char stale[64];
    *line = NULL;
    pthread_mutex_lock(&reading);
    while (read(state.wake[0], stale, sizeof stale) > 0)
        continue;
    is_reading = 1;
    peri_line_end end =
        want_edit && state.is_tty ? peri_edit_read(prompt, line) : read_prompted(prompt, line);
    is_reading = 0;
    pthread_mutex_unlock(&reading);
    return end;
}
