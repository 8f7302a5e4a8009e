/* SPDX-License-Identifier: MIT
 *
 * lua_store_blob.c - bytes of a store on their way: hashed piece by piece, and copied into a draft
 * that becomes a file of the store by publish, or is gone.
 *
 * A draft lies in the folder of the file that it will be, under a name that no file of a store has
 * (".perigee-PROCESS-NUMBER.tmp").  publish syncs the bytes, renames, and syncs the folder; so a
 * name stands for all of its bytes or is not there.  What is hashed is what was written.
 *
 * A copy is a clone where the file system can (FICLONE: it shares extents, and later changes of
 * the source do not show), else the bytes.  Never a hard link: the person may rewrite the source in
 * place, and a blob would change with it.
 *
 * Each step handles STEP bytes at most, so that Lua can show progress, wait, and be interrupted
 * between steps. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/sha256.h"
#include "base/status.h"
#include "script/store_int.h"

#include "base/compiler.h"

enum { CHUNK = 1 << 20, STEP = 16 << 20 };

typedef struct blob {
    int in, out, dir; /* source; draft and its folder; -1 = none */
    struct stat source;
    char in_path[LUA_PATH_MAX], out_path[LUA_PATH_MAX]; /* for texts */
    char name[48];                                      /* of the draft in dir */
    uint64_t n_done, n_total;
    bool is_cloned; /* the draft holds all bytes already */
    bool is_ended;  /* digest is there */
    peri_hash *hash;
    char *buffer; /* [CHUNK] */
    char digest[PERI_SHA256_TEXT];
} blob;

static void shut(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Release everything; a draft that was not published is removed. */
static void drop(blob *b) {
    if (b->out >= 0 && b->dir >= 0) unlinkat(b->dir, b->name, 0);
    shut(&b->in);
    shut(&b->out);
    shut(&b->dir);
    peri_hash_free(b->hash);
    b->hash = NULL;
    peri_free(b->buffer);
    b->buffer = NULL;
}

static int blob_close(lua_State *L) {
    drop(luaL_checkudata(L, 1, STORE_BLOB_CLASS));
    return 0;
}

static blob *push_blob(lua_State *L) {
    peri_error err;
    blob *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (blob){.in = -1, .out = -1, .dir = -1};
    luaL_setmetatable(L, STORE_BLOB_CLASS);
    b->buffer = peri_alloc(CHUNK);
    if (b->buffer == NULL) luaL_error(L, "not enough memory");
    if (peri_hash_new(&b->hash, &err)) luaL_error(L, "%s", err.text);
    return b;
}

static blob *check_blob(lua_State *L) {
    blob *b = luaL_checkudata(L, 1, STORE_BLOB_CLASS);
    if (b->in < 0 && b->out < 0) luaL_error(L, "the blob is closed");
    return b;
}

/* ---- making --------------------------------------------------------------------------------- */

/* What was opened as the source must be a regular file; 0, or errno. */
static int take_source(blob *b, int fd) {
    b->in = fd;
    if (fd < 0 || fstat(fd, &b->source) != 0) return errno;
    if (!S_ISREG(b->source.st_mode)) return S_ISDIR(b->source.st_mode) ? EISDIR : EINVAL;
    b->n_total = (uint64_t)b->source.st_size;
    return 0;
}

static int open_source(blob *b, const char *path) {
    snprintf(b->in_path, sizeof b->in_path, "%s", path);
    return take_source(b, open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

/* store.source(path) -> blob that only hashes | nil, err */
int store_source(lua_State *L) {
    const char *path = store_check_name(L, 1);
    blob *b = push_blob(L);
    int number = open_source(b, path);
    return number ? store_fail(L, path, "", "read", number) : 1;
}

/* folder:source(name) -> blob that only hashes | nil, err */
int store_folder_source(lua_State *L) {
    const char *path, *name = store_check_name(L, 2);
    int root = store_check_folder(L, 1, &path);
    blob *b = push_blob(L);
    snprintf(b->in_path, sizeof b->in_path, "%s/%s", path, name);
    int number = take_source(b, lua_open_beneath(root, name, O_RDONLY | O_NONBLOCK, 0));
    return number ? store_fail(L, path, name, "read", number) : 1;
}

static int open_draft(blob *b, int root, const char *folder) {
    enum { ATTEMPTS = 64 }; /* names that killed processes of our number left behind */
    static atomic_uint counter;
    b->dir = lua_open_beneath(root, folder, O_RDONLY | O_DIRECTORY, 0);
    if (b->dir < 0) return errno;
    for (int i = 0; i < ATTEMPTS; i++) {
        snprintf(b->name, sizeof b->name, ".perigee-%ld-%u.tmp", (long)getpid(),
                 atomic_fetch_add(&counter, 1));
        b->out = openat(b->dir, b->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (b->out >= 0 || errno != EEXIST) break;
    }
    return b->out < 0 ? errno : 0;
}

/* "PLACE: no room for N bytes of SOURCE: M bytes are free (TEXT)", or the plain errno. */
static int fail_write(lua_State *L, const blob *b, int number) {
    struct statvfs v;
    peri_error err;
    if (number != ENOSPC && number != EDQUOT && number != EFBIG)
        return store_fail(L, b->out_path, "", "write", number);
    uint64_t n_free = fstatvfs(b->dir, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;
    const char *slash = strrchr(b->out_path, '/');
    peri_fail(&err, PERI_E_IO,
              "no room in %.*s for %" PRIu64 " bytes%s%s: %s; %" PRIu64 " bytes are free",
              (int)(slash - b->out_path), b->out_path, b->n_total, b->in_path[0] ? " of " : "",
              b->in_path, peri_errno_text(number), n_free);
    return peri_lua_fail(L, &err);
}

/* Make the draft a clone of the source, or reserve its room so that a full disk is known now. */
static int prepare_copy(blob *b) {
    if (b->n_total == 0) return 0;
    if (ioctl(b->out, FICLONE, b->in) == 0) {
        b->is_cloned = true;
        return 0;
    }
    if (fallocate(b->out, 0, 0, (off_t)b->n_total) == 0) return 0;
    return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? errno : 0;
}

/* folder:draft(name[, path]) -> blob | nil, err: a new file in the folder `name`, of the bytes of
 * the file at `path` (by step) or of texts (by write) */
int store_folder_draft(lua_State *L) {
    const char *path, *name = store_check_name(L, 2);
    const char *from = lua_isnoneornil(L, 3) ? NULL : store_check_name(L, 3);
    int root = store_check_folder(L, 1, &path);
    blob *b = push_blob(L);
    int number = from ? open_source(b, from) : 0;
    if (number) return store_fail(L, from, "", "read", number);
    number = open_draft(b, root, name);
    snprintf(b->out_path, sizeof b->out_path, "%s/%s/%s", path, name, b->name);
    if (number) return store_fail(L, b->out_path, "", "make it", number);
    if (from) number = prepare_copy(b);
    if (number == 0) return 1;
    int n_result = fail_write(L, b, number);
    drop(b);
    return n_result;
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static int write_all(int fd, const char *data, size_t size) {
    for (size_t n = 0; n < size;) {
        ssize_t put = write(fd, data + n, size - n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return put < 0 ? errno : ENOSPC;
        n += (size_t)put;
    }
    return 0;
}

/* blob:write(text) -> true | nil, err */
static int blob_write(lua_State *L) {
    blob *b = check_blob(L);
    size_t size;
    peri_error err;
    const char *text = luaL_checklstring(L, 2, &size);
    if (b->in >= 0 || b->is_ended) luaL_error(L, "this blob takes no text");
    b->n_total += size;
    int number = write_all(b->out, text, size);
    if (number) return fail_write(L, b, number);
    if (peri_hash_add(b->hash, text, size, &err)) return peri_lua_fail(L, &err);
    b->n_done += size;
    lua_pushboolean(L, 1);
    return 1;
}

/* The next piece into the buffer: of the draft where it is a clone. */
static ssize_t read_piece(const blob *b) {
    ssize_t got;
    do
        got = b->is_cloned ? pread(b->out, b->buffer, CHUNK, (off_t)b->n_done)
                           : pread(b->in, b->buffer, CHUNK, (off_t)b->n_done);
    while (got < 0 && errno == EINTR);
    return got;
}

/* The source must be what it was when it was opened. */
static peri_status check_unchanged(const blob *b, peri_error *err) {
    struct stat st;
    if (fstat(b->in, &st) != 0)
        return peri_fail(err, PERI_E_IO, "%s: cannot look at it: %s", b->in_path,
                         peri_errno_text(errno));
    bool is_same = st.st_size == b->source.st_size &&
                   st.st_mtim.tv_sec == b->source.st_mtim.tv_sec &&
                   st.st_mtim.tv_nsec == b->source.st_mtim.tv_nsec;
    if (is_same && b->n_done == b->n_total) return PERI_OK;
    return peri_fail(err, PERI_E_IO,
                     "%s: changed while it was read (%" PRIu64 " bytes when opened, %" PRIu64
                     " read): try again when it is complete",
                     b->in_path, b->n_total, b->n_done);
}

/* blob:step() -> bytes done, bytes in all | nil, err.  Over when both are the same. */
static int blob_step(lua_State *L) {
    blob *b = check_blob(L);
    peri_error err;
    if (b->in < 0) luaL_error(L, "this blob has no source");
    for (uint64_t n = 0; n < STEP && !b->is_ended;) {
        ssize_t got = read_piece(b);
        if (got < 0) return store_fail(L, b->in_path, "", "read", errno);
        if (got == 0) {
            if (check_unchanged(b, &err) || peri_hash_end(b->hash, b->digest, &err))
                return peri_lua_fail(L, &err);
            b->is_ended = true;
            break;
        }
        if (peri_hash_add(b->hash, b->buffer, (size_t)got, &err)) return peri_lua_fail(L, &err);
        bool is_copied = b->out >= 0 && !b->is_cloned;
        int number = is_copied ? write_all(b->out, b->buffer, (size_t)got) : 0;
        if (number) return fail_write(L, b, number);
        b->n_done += (uint64_t)got;
        n += (uint64_t)got;
        peri_lua_poll(L);
    }
    lua_pushinteger(L, (lua_Integer)b->n_done);
    lua_pushinteger(L, (lua_Integer)b->n_total);
    lua_pushboolean(L, b->is_ended);
    return 3;
}

/* blob:digest() -> 64 hexadecimal digits; of texts: no more can be written afterwards */
static int blob_digest(lua_State *L) {
    blob *b = check_blob(L);
    peri_error err;
    if (!b->is_ended && b->in >= 0) luaL_error(L, "the blob was not read to its end");
    if (!b->is_ended && peri_hash_end(b->hash, b->digest, &err)) return luaL_error(L, err.text);
    b->is_ended = true;
    lua_pushstring(L, b->digest);
    return 1;
}

/* blob:size() */
static int blob_size(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)check_blob(L)->n_total);
    return 1;
}

/* blob:publish(name) -> true | nil, err: the draft is the file `name` of its folder from now on */
static int blob_publish(lua_State *L) {
    blob *b = check_blob(L);
    const char *name = store_check_name(L, 2);
    if (b->out < 0 || !b->is_ended) luaL_error(L, "there is no complete draft to publish");
    luaL_argcheck(L, strchr(name, '/') == NULL && name[0] != '.', 2, "expected a plain name");
    if (fsync(b->out) != 0) return fail_write(L, b, errno);
    if (renameat(b->dir, b->name, b->dir, name) != 0)
        return store_fail(L, b->out_path, "", "rename it", errno);
    shut(&b->out); /* the name is no draft's any more */
    if (fsync(b->dir) != 0) return store_fail(L, b->out_path, "", "sync its folder", errno);
    drop(b);
    lua_pushboolean(L, 1);
    return 1;
}

void store_blob_class(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"write", blob_write}, {"step", blob_step},       {"digest", blob_digest},
        {"size", blob_size},   {"publish", blob_publish}, {"close", blob_close},
        {NULL, NULL}};
    store_new_class(L, STORE_BLOB_CLASS, methods, blob_close);
}
