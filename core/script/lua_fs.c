/* SPDX-License-Identifier: MIT
 *
 * lua_fs.c - perigee.sys.fs: reading, listing, looking at and writing files in granted folders.
 *
 * A name is made absolute by text, which chooses the grant; the rest of the name below the granted
 * folder is opened by lua_open_beneath.  So what text decided, links cannot undo.  Failures are
 * `nil, err`; err.code is "not_allowed" when a grant is missing, and the message shows the flag. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/status.h"
#include "script/sandbox_int.h"

#include "base/compiler.h"

enum { DEFAULT_READ = 1 << 20, MAX_READ = 256 << 20, MAX_ENTRIES = 10000, CHUNK = 1 << 16 };

static const char key_fd = 'd';

/* ---- descriptors that an error closes ------------------------------------------------------ */

static int close_fd(lua_State *L) {
    int *fd = lua_touserdata(L, 1);
    if (*fd >= 0) close(*fd);
    *fd = -1;
    return 0;
}

/* Push a holder; the collector closes what is still in it. */
static int *push_fd(lua_State *L) {
    int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
    *fd = -1;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key_fd) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 1);
        lua_pushcfunction(L, close_fd);
        lua_setfield(L, -2, "__gc");
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &key_fd);
    }
    lua_setmetatable(L, -2);
    return fd;
}

static void drop_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* ---- names and grants ---------------------------------------------------------------------- */

typedef struct target {
    const lua_grant *grant;
    const char *rest; /* below the granted folder */
    char path[LUA_PATH_MAX];
} target;

static const char *const doing[GRANT_KINDS] = {"reading", "writing", NULL};

/* nil, err for a name no grant covers; is_folder: the flag to add names it and not its parent. */
static int denied(lua_State *L, const target *t, grant_kind kind, bool is_folder) {
    const char *slash = strrchr(t->path, '/');
    size_t n = is_folder || slash == NULL ? strlen(t->path) : (size_t)(slash - t->path);
    luaL_pushfail(L);
    peri_lua_push_error(L, PERI_E_OTHER, "");
    lua_pushliteral(L, "not_allowed");
    lua_setfield(L, -2, "code");
    lua_pushlstring(L, n != 0 ? t->path : "/", n != 0 ? n : 1);
    if (t->grant != NULL)
        lua_pushfstring(L, "%s %s is not allowed: a link in it leaves %s", doing[kind], t->path,
                        t->grant->value);
    else
        lua_pushfstring(L, "%s %s is not allowed; add --allow %s=%s", doing[kind], t->path,
                        grant_name[kind], lua_tostring(L, -1));
    lua_setfield(L, -3, "message");
    lua_pop(L, 1);
    return 2;
}

/* nil, err from errno. */
static int failed(lua_State *L, const target *t, const char *what, int number) {
    peri_error err;
    peri_fail(&err, number == ENOENT ? PERI_E_NOT_FOUND : PERI_E_IO, "%s: cannot %s: %s", t->path,
              what, peri_errno_text(number));
    return peri_lua_fail(L, &err);
}

/* Fill in t for the name in argument 1; true when a grant covers it. */
static bool find(lua_State *L, target *t, grant_kind kind) {
    peri_lua *l = peri_lua_of(L);
    size_t size;
    const char *name = luaL_checklstring(L, 1, &size);
    if (strlen(name) != size || !lua_path_absolute(l, name, t->path))
        peri_lua_misuse(L, "file name \"%.60s\": expected 1 to %d bytes without NUL", name,
                        LUA_PATH_MAX - 1);
    t->grant = lua_grant_find(l, kind, t->path, &t->rest);
    return t->grant != NULL;
}

/* Open the target into *fd; 0, or errno. */
static int open_target(const target *t, int flags, int *fd) {
    int root = open(t->grant->value, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) return errno;
    *fd = lua_open_beneath(root, t->rest, flags, 0);
    int number = *fd < 0 ? errno : 0;
    close(root);
    return number;
}

static bool is_escape(int number) {
    return number == EXDEV || number == ELOOP;
}

/* ---- reading ------------------------------------------------------------------------------- */

/* All of an open regular file onto the stack. */
static peri_status push_contents(lua_State *L, int fd, const char *shown, size_t max,
                                 peri_error *err) {
    struct stat st;
    lua_buf b;
    if (fstat(fd, &st) != 0)
        return peri_fail(err, PERI_E_IO, "%s: cannot stat: %s", shown, peri_errno_text(errno));
    if (!S_ISREG(st.st_mode))
        return peri_fail(err, PERI_E_IO, "%s: is a %s, expected a regular file", shown,
                         S_ISDIR(st.st_mode) ? "folder" : "device, pipe or socket");
    lua_buf_init(&b, L);
    peri_status status = PERI_OK;
    for (;;) {
        ssize_t got;
        peri_lua_poll(L);
        if (b.size > max || (uint64_t)st.st_size > max) {
            status =
                peri_fail(err, PERI_E_RANGE, "%s: found %" PRIu64 " bytes, expected at most %zu",
                          shown, (uint64_t)st.st_size > max ? (uint64_t)st.st_size : b.size, max);
            break;
        }
        char *to = lua_buf_room(&b, CHUNK);
        do
            got = read(fd, to, CHUNK);
        while (got < 0 && errno == EINTR);
        if (got < 0)
            status =
                peri_fail(err, PERI_E_IO, "%s: cannot read: %s", shown, peri_errno_text(errno));
        if (got <= 0) break;
        b.size += (size_t)got;
    }
    if (status == PERI_OK) lua_buf_push(&b);
    lua_remove(L, b.idx);
    return status;
}

peri_status lua_push_file(lua_State *L, int dir, const char *name, const char *shown, size_t max,
                          peri_error *err) {
    int *fd = push_fd(L);
    *fd = dir < 0 ? -1 : lua_open_beneath(dir, name, O_RDONLY | O_NONBLOCK, 0);
    if (*fd < 0) {
        lua_pop(L, 1);
        if (errno == ENOENT || errno == ENOTDIR)
            return peri_fail(err, PERI_E_NOT_FOUND, "%s: there is no such file", shown);
        if (is_escape(errno))
            return peri_fail(err, PERI_E_INVALID, "%s: leaves its folder through a link", shown);
        return peri_fail(err, PERI_E_IO, "%s: cannot open: %s", shown, peri_errno_text(errno));
    }
    peri_status status = push_contents(L, *fd, shown, max, err);
    drop_fd(fd);
    lua_remove(L, status == PERI_OK ? -2 : -1);
    return status;
}

/* fs.read(path [, max_bytes]) -> text | nil, err */
static int fs_read(lua_State *L) {
    target t;
    peri_error err;
    lua_Integer max = luaL_optinteger(L, 2, DEFAULT_READ);
    luaL_argcheck(L, max >= 0 && max <= MAX_READ, 2, "expected 0 to 268435456 bytes");
    if (!find(L, &t, GRANT_READ)) return denied(L, &t, GRANT_READ, false);
    int *fd = push_fd(L), number = open_target(&t, O_RDONLY | O_NONBLOCK, fd);
    if (is_escape(number)) return denied(L, &t, GRANT_READ, false);
    if (number != 0) return failed(L, &t, "open", number);
    peri_status status = push_contents(L, *fd, t.path, (size_t)max, &err);
    drop_fd(fd);
    return status == PERI_OK ? 1 : peri_lua_fail(L, &err);
}

/* fs.stat(path) -> {type = "file"|"folder"|"other", size =, mtime =} | nil, err */
static int fs_stat(lua_State *L) {
    target t;
    struct stat st;
    if (!find(L, &t, GRANT_READ)) return denied(L, &t, GRANT_READ, false);
    int *fd = push_fd(L), number = open_target(&t, O_PATH, fd);
    if (number == 0 && fstat(*fd, &st) != 0) number = errno;
    drop_fd(fd);
    if (is_escape(number)) return denied(L, &t, GRANT_READ, false);
    if (number != 0) return failed(L, &t, "look at it", number);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, S_ISREG(st.st_mode) ? "file" : S_ISDIR(st.st_mode) ? "folder" : "other");
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, st.st_size);
    lua_setfield(L, -2, "size");
    lua_pushinteger(L, st.st_mtime);
    lua_setfield(L, -2, "mtime");
    return 1;
}

/* fs.exists(path) -> boolean | nil, err */
static int fs_exists(lua_State *L) {
    target t;
    if (!find(L, &t, GRANT_READ)) return denied(L, &t, GRANT_READ, false);
    int *fd = push_fd(L), number = open_target(&t, O_PATH, fd);
    drop_fd(fd);
    if (is_escape(number)) return denied(L, &t, GRANT_READ, false);
    if (number != 0 && number != ENOENT && number != ENOTDIR)
        return failed(L, &t, "look at it", number);
    lua_pushboolean(L, number == 0);
    return 1;
}

/* ---- listing ------------------------------------------------------------------------------- */

/* Append the names in one piece of getdents64's output to the list on top; how many it holds then.
 */
static lua_Integer add_names(lua_State *L, const char *data, long size, lua_Integer n) {
    for (long at = 0; at < size;) {
        uint16_t length;
        const char *name = data + at + offsetof(struct dirent64, d_name);
        memcpy(&length, data + at + offsetof(struct dirent64, d_reclen), sizeof length);
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            lua_pushstring(L, name);
            lua_rawseti(L, -2, ++n);
        }
        at += length;
    }
    return n;
}

/* fs.list(folder) -> names, sorted by bytes | nil, err */
static int fs_list(lua_State *L) {
    target t;
    peri_error err;
    char data[8192] __attribute__((aligned(8)));
    lua_Integer n = 0;
    if (!find(L, &t, GRANT_READ)) return denied(L, &t, GRANT_READ, true);
    int *fd = push_fd(L), number = open_target(&t, O_RDONLY | O_DIRECTORY, fd);
    if (is_escape(number)) return denied(L, &t, GRANT_READ, true);
    if (number != 0) return failed(L, &t, "list", number);
    lua_newtable(L);
    for (;;) {
        long got = syscall(SYS_getdents64, *fd, data, sizeof data);
        if (got < 0) return failed(L, &t, "list", errno);
        if (got == 0) break;
        n = add_names(L, data, got, n);
        if (n > MAX_ENTRIES) {
            peri_fail(&err, PERI_E_RANGE, "%s: more than %d entries", t.path, MAX_ENTRIES);
            return peri_lua_fail(L, &err);
        }
    }
    drop_fd(fd);
    lua_sort_strings(L, 1, n);
    return 1;
}

/* ---- writing ------------------------------------------------------------------------------- */

static int write_all(int fd, const char *data, size_t size) {
    for (size_t n = 0; n < size;) {
        ssize_t put = write(fd, data + n, size - n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return put < 0 ? errno : ENOSPC;
        n += (size_t)put;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

/* Write a file `name` in the open folder: a temporary file beside it, then rename. */
static int replace_file(int dir, const char *name, const char *data, size_t size) {
    static atomic_uint counter;
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".perigee-%ld-%u.tmp", (long)getpid(),
             atomic_fetch_add(&counter, 1));
    int fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return errno;
    int number = write_all(fd, data, size);
    if (close(fd) != 0 && number == 0) number = errno;
    if (number == 0 && renameat(dir, temporary, dir, name) != 0) number = errno;
    if (number != 0) unlinkat(dir, temporary, 0);
    return number;
}

/* fs.write(path, text) -> true | nil, err.  The file is replaced as a whole or not at all. */
static int fs_write(lua_State *L) {
    target t;
    size_t size;
    char folder[LUA_PATH_MAX];
    const char *data = luaL_checklstring(L, 2, &size);
    if (!find(L, &t, GRANT_WRITE)) return denied(L, &t, GRANT_WRITE, false);
    if (strcmp(t.rest, ".") == 0) return failed(L, &t, "write", EISDIR);
    const char *slash = strrchr(t.rest, '/');
    snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - t.rest) : 1,
             slash != NULL ? t.rest : ".");
    target parent = t;
    parent.rest = folder;
    int *fd = push_fd(L), number = open_target(&parent, O_PATH | O_DIRECTORY, fd);
    if (number == 0) number = replace_file(*fd, slash != NULL ? slash + 1 : t.rest, data, size);
    drop_fd(fd);
    if (is_escape(number)) return denied(L, &t, GRANT_WRITE, false);
    if (number != 0) return failed(L, &t, "write", number);
    lua_pushboolean(L, 1);
    return 1;
}

int lua_open_fs(lua_State *L) {
    static const luaL_Reg functions[] = {{"read", fs_read},   {"list", fs_list},
                                         {"stat", fs_stat},   {"exists", fs_exists},
                                         {"write", fs_write}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
