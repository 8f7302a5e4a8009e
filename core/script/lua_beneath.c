/* SPDX-License-Identifier: MIT
 *
 * lua_beneath.c - opening names below a folder so that neither "..", an absolute name nor a link
 * leaves it, whatever another process does to the folders meanwhile.
 *
 * Linux 5.6 and later resolve a name that way themselves (openat2).  Elsewhere, or where a
 * container forbids the call, the name is walked one part at a time and every link is refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "script/sandbox_int.h"

#include "base/compiler.h"

bool lua_has_openat2 = true;

static int open_part(int dir, const char *part, int flags, unsigned mode) {
    int fd;
    struct stat st;
    do
        fd = openat(dir, part, flags | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);
    while (fd < 0 && errno == EINTR);
    if (fd < 0 && errno == ENOTDIR && fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) == 0)
        errno = S_ISLNK(st.st_mode) ? ELOOP : ENOTDIR;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode)) { /* O_PATH opens links */
        close(fd);
        errno = ELOOP;
        return -1;
    }
    return fd;
}

static int walk(int dir, const char *name, int flags, unsigned mode) {
    char part[256];
    int at = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    for (const char *p = name; at >= 0;) {
        size_t n = strcspn(p, "/");
        bool is_last = p[n] == 0;
        if (n >= sizeof part || (n == 2 && memcmp(p, "..", 2) == 0) || (n == 0 && p == name)) {
            errno = n >= sizeof part ? ENAMETOOLONG : EXDEV;
            break;
        }
        memcpy(part, n == 0 ? "." : p, n == 0 ? 2 : n);
        part[n == 0 ? 1 : n] = 0;
        int next = open_part(at, part, is_last ? flags : O_PATH | O_DIRECTORY, mode);
        int number = errno;
        close(at);
        errno = number;
        if (is_last || next < 0) return next;
        at = next;
        p += n + 1;
    }
    if (at >= 0) {
        int number = errno;
        close(at);
        errno = number;
    }
    return -1;
}

int lua_open_beneath(int dir, const char *name, int flags, unsigned mode) {
    enum { ATTEMPTS = 32 }; /* the kernel says EAGAIN when a folder was renamed meanwhile */
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOCTTY),
                           .mode = mode,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    if ((flags & O_PATH) != 0) how.flags = (uint64_t)((flags | O_CLOEXEC) & ~O_NONBLOCK);
    for (int i = 0; lua_has_openat2 && i < ATTEMPTS; i++) {
        int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR && errno != ENOSYS && errno != EPERM))
            return fd;
        if (errno == ENOSYS || errno == EPERM) break;
    }
    return walk(dir, name, flags, mode);
}
