/* SPDX-License-Identifier: MIT
 *
 * kill_at.c - preloaded into the program (LD_PRELOAD): kills it at the n-th call that changes
 * files, as kill -9 would, so that a test can stop a command at every boundary between two changes.
 *
 *   KILL_AT   number of the call, from 1; 0: none
 *   KILL_HOW  "before" it, "after" it, or "torn": a write that wrote a part
 *   KILL_LOG  file that gets the number of calls there were, at the end of a run that was not
 * killed
 *
 * Calls on the standard streams do not count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long n_call;

static _Noreturn void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static const char *how(void) {
    const char *word = getenv("KILL_HOW");
    return word ? word : "before";
}

/* Counts a call; true when it is the one. */
static int is_it(void) {
    const char *at = getenv("KILL_AT");
    long n = atomic_fetch_add(&n_call, 1) + 1;
    return at && strtol(at, NULL, 10) == n;
}

/* Around a call that gives x. */
#define AROUND(type, call)                                                                         \
    int is_here = is_it();                                                                         \
    if (is_here && strcmp(how(), "before") == 0) die();                                            \
    type x = call;                                                                                 \
    if (is_here) die();                                                                            \
    return x

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    if (fd <= 2) return REAL(write)(fd, data, size);
    int is_here = is_it();
    if (is_here && strcmp(how(), "before") == 0) die();
    if (is_here && strcmp(how(), "torn") == 0) size = size / 2;
    ssize_t put = REAL(write)(fd, data, size);
    if (is_here) die();
    return put;
}

int fsync(int fd) {
    AROUND(int, REAL(fsync)(fd));
}

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    AROUND(int, REAL(renameat)(from_dir, from, to_dir, to));
}

int unlinkat(int dir, const char *name, int flags) {
    AROUND(int, REAL(unlinkat)(dir, name, flags));
}

int mkdirat(int dir, const char *name, mode_t mode) {
    AROUND(int, REAL(mkdirat)(dir, name, mode));
}

int mkdir(const char *name, mode_t mode) {
    AROUND(int, REAL(mkdir)(name, mode));
}

int fallocate(int fd, int mode, off_t off, off_t size) {
    AROUND(int, REAL(fallocate)(fd, mode, off, size));
}

int flock(int fd, int what) {
    AROUND(int, REAL(flock)(fd, what));
}

int openat(int dir, const char *name, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    if (!(flags & O_CREAT)) return REAL(openat)(dir, name, flags, mode);
    AROUND(int, REAL(openat)(dir, name, flags, mode));
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("KILL_LOG");
    FILE *f = path ? fopen(path, "w") : NULL;
    if (f == NULL) return;
    fprintf(f, "%ld\n", atomic_load(&n_call));
    fclose(f);
}
