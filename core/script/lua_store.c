/* SPDX-License-Identifier: MIT
 *
 * lua_store.c - perigee.sys.store: what a store of models needs of the system and Lua has not.
 *
 * A folder object is a store's top folder.  Names below it are opened by lua_open_beneath, so that
 * neither "..", an absolute name nor a link leaves the store, whether it is read or written.  What
 * stands in the files is for scripts/perigee/store to say.
 *
 * Durability: a file becomes visible by rename after its bytes were synced (lua_store_blob.c), and
 * every change of a folder is synced before the call returns.  Only our own modules see this one;
 * see lua_require.c. */
#define _GNU_SOURCE
#include "script/store_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"
#include "base/status.h"
#include "script/lua_store.h"

#include "base/compiler.h"

enum { MAX_ENTRIES = 100000, MAX_TEXT = 64 << 20 };

typedef struct folder {
    int fd; /* O_PATH; -1 once closed */
    char path[LUA_PATH_MAX];
} folder;

/* ---- shared helpers ------------------------------------------------------------------------- */

void store_new_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close) {
    if (!luaL_newmetatable(L, name)) luaL_error(L, "%s exists", name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pushliteral(L, "closed to scripts");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

int store_fail(lua_State *L, const char *path, const char *name, const char *what, int number) {
    peri_error err;
    const char *slash = name[0] ? "/" : "";
    if (number == EXDEV || number == ELOOP)
        peri_fail(&err, PERI_E_INVALID, "%s%s%s: a link in it leaves the folder %s", path, slash,
                  name, path);
    else
        peri_fail(&err,
                  number == ENOENT || number == ENOTDIR ? PERI_E_NOT_FOUND
                  : number == ENOMEM                    ? PERI_E_NOMEM
                                                        : PERI_E_IO,
                  "%s%s%s: cannot %s: %s", path, slash, name, what, peri_errno_text(number));
    return peri_lua_fail(L, &err);
}

int store_check_folder(lua_State *L, int idx, const char **path) {
    folder *f = luaL_checkudata(L, idx, STORE_FOLDER_CLASS);
    if (f->fd < 0) luaL_error(L, "the folder is closed");
    *path = f->path;
    return f->fd;
}

const char *store_check_name(lua_State *L, int idx) {
    size_t size;
    const char *name = luaL_checklstring(L, idx, &size);
    if (size == 0 || size >= LUA_PATH_MAX || strlen(name) != size)
        peri_lua_misuse(L, "file name \"%.60s\": expected 1 to %d bytes without NUL", name,
                        LUA_PATH_MAX - 1);
    return name;
}

int store_sync_folder(int root, const char *name) {
    int fd = lua_open_beneath(root, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return errno;
    int number = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return number;
}

/* The descriptor of the folder that holds `name` (to be closed), and what is left of the name. */
static int open_parent(int root, const char *name, const char **last) {
    char parent[LUA_PATH_MAX];
    const char *slash = strrchr(name, '/');
    *last = slash ? slash + 1 : name;
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - name) : 1, slash ? name : ".");
    return lua_open_beneath(root, parent, O_RDONLY | O_DIRECTORY, 0);
}

/* ---- opening -------------------------------------------------------------------------------- */

/* mkdir -p of an absolute path, each new folder synced into its parent. */
static int make_path(const char *path) {
    char part[LUA_PATH_MAX];
    for (size_t n = 1; path[n - 1] != 0; n++) {
        if (path[n] != '/' && path[n] != 0) continue;
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (mkdir(part, 0755) != 0) {
            if (errno == EEXIST) continue;
            return errno;
        }
        char *slash = strrchr(part, '/');
        slash[slash == part] = 0;
        int fd = open(part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) return errno;
        int number = fsync(fd) == 0 ? 0 : errno;
        close(fd);
        if (number) return number;
    }
    return 0;
}

/* store.open(path[, want_create]) -> folder | nil, err */
static int store_open(lua_State *L) {
    const char *given = store_check_name(L, 1);
    bool want_create = lua_toboolean(L, 2);
    folder *f = lua_newuserdatauv(L, sizeof *f, 0);
    f->fd = -1;
    luaL_setmetatable(L, STORE_FOLDER_CLASS);
    if (!lua_path_absolute(peri_lua_of(L), given, f->path))
        peri_lua_misuse(L, "folder \"%.60s\": no path", given);
    int number = want_create ? make_path(f->path) : 0;
    if (number) return store_fail(L, f->path, "", "make the folder", number);
    f->fd = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (f->fd < 0) return store_fail(L, f->path, "", "open", errno);
    return 1;
}

static int folder_close(lua_State *L) {
    folder *f = luaL_checkudata(L, 1, STORE_FOLDER_CLASS);
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
    return 0;
}

/* folder:path() */
static int folder_path(lua_State *L) {
    const char *path;
    store_check_folder(L, 1, &path);
    lua_pushstring(L, path);
    return 1;
}

/* ---- reading -------------------------------------------------------------------------------- */

static const char *kind_of(mode_t mode) {
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "folder" : S_ISLNK(mode) ? "link" : "other";
}

/* folder:stat(name) -> { kind =, size =, mtime = } | nil, err.  Links are followed inside. */
static int folder_stat(lua_State *L) {
    const char *path, *name = store_check_name(L, 2);
    struct stat st;
    int root = store_check_folder(L, 1, &path);
    int fd = lua_open_beneath(root, name, O_PATH, 0);
    int number = fd < 0 ? errno : fstat(fd, &st) != 0 ? errno : 0;
    if (fd >= 0) close(fd);
    if (number) return store_fail(L, path, name, "look at it", number);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, kind_of(st.st_mode));
    lua_setfield(L, -2, "kind");
    lua_pushinteger(L, st.st_size);
    lua_setfield(L, -2, "size");
    lua_pushinteger(L, st.st_mtime);
    lua_setfield(L, -2, "mtime");
    return 1;
}

/* folder:read(name, max_bytes) -> text | nil, err */
static int folder_read(lua_State *L) {
    const char *path, *name = store_check_name(L, 2);
    lua_Integer max = luaL_checkinteger(L, 3);
    peri_error err;
    int root = store_check_folder(L, 1, &path);
    luaL_argcheck(L, max >= 0 && max <= MAX_TEXT, 3, "expected 0 to 67108864 bytes");
    const char *shown = lua_pushfstring(L, "%s/%s", path, name);
    if (lua_push_file(L, root, name, shown, (size_t)max, &err)) return peri_lua_fail(L, &err);
    return 1;
}

static int close_stream(lua_State *L) {
    DIR **d = lua_touserdata(L, 1);
    if (*d) closedir(*d);
    *d = NULL;
    return 0;
}

/* Push a holder for a folder's stream, which the collector closes. */
static DIR **push_stream(lua_State *L) {
    DIR **d = lua_newuserdatauv(L, sizeof(DIR *), 0);
    *d = NULL;
    if (luaL_newmetatable(L, "perigee store stream")) {
        lua_pushcfunction(L, close_stream);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return d;
}

/* folder:list(name) -> { names = sorted, kinds = { [name] = kind } } | nil, err */
static int folder_list(lua_State *L) {
    const char *path, *name = store_check_name(L, 2);
    int root = store_check_folder(L, 1, &path);
    DIR **d = push_stream(L);
    int fd = lua_open_beneath(root, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return store_fail(L, path, name, "list", errno);
    *d = fdopendir(fd);
    if (*d == NULL) {
        int number = errno;
        close(fd);
        return store_fail(L, path, name, "list", number);
    }
    lua_newtable(L);
    int kinds = lua_gettop(L);
    lua_newtable(L);
    lua_Integer n = 0;
    for (struct dirent *e; (e = readdir(*d)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (fstatat(dirfd(*d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue; /* just gone */
        if (++n > MAX_ENTRIES) return store_fail(L, path, name, "list", EOVERFLOW);
        lua_pushstring(L, kind_of(st.st_mode));
        lua_setfield(L, kinds, e->d_name);
        lua_pushstring(L, e->d_name);
        lua_rawseti(L, -2, n);
        peri_lua_poll(L);
    }
    closedir(*d);
    *d = NULL;
    lua_sort_strings(L, 1, n);
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "names");
    lua_pushvalue(L, kinds);
    lua_setfield(L, -2, "kinds");
    return 1;
}

/* ---- changing ------------------------------------------------------------------------------- */

static int make_beneath(int root, const char *name) {
    char part[LUA_PATH_MAX];
    const char *last;
    for (const char *p = name; p != NULL;) {
        p = strchr(p, '/');
        snprintf(part, sizeof part, "%.*s", p ? (int)(p - name) : LUA_PATH_MAX - 1, name);
        p = p ? p + 1 : NULL;
        int fd = open_parent(root, part, &last);
        if (fd < 0) return errno;
        int number = mkdirat(fd, last, 0755) == 0 ? fsync(fd) : errno == EEXIST ? 0 : -1;
        number = number != 0 ? errno : 0;
        close(fd);
        if (number) return number;
    }
    return 0;
}

/* folder:make(name) -> true | nil, err: a folder and those it lies in */
static int folder_make(lua_State *L) {
    const char *path, *name = store_check_name(L, 2);
    int root = store_check_folder(L, 1, &path);
    int number = make_beneath(root, name);
    if (number) return store_fail(L, path, name, "make the folder", number);
    lua_pushboolean(L, 1);
    return 1;
}

/* folder:remove(name) -> true, or false when it is a folder that is not empty | nil, err */
static int folder_remove(lua_State *L) {
    const char *path, *last, *name = store_check_name(L, 2);
    int root = store_check_folder(L, 1, &path);
    int fd = open_parent(root, name, &last), number = 0;
    if (fd < 0) return store_fail(L, path, name, "remove", errno);
    if (unlinkat(fd, last, 0) != 0 && (errno != EISDIR || unlinkat(fd, last, AT_REMOVEDIR) != 0))
        number = errno;
    bool is_full = number == ENOTEMPTY || number == EEXIST;
    if (number == 0 && fsync(fd) != 0) number = errno;
    close(fd);
    if (number && !is_full) return store_fail(L, path, name, "remove", number);
    lua_pushboolean(L, !is_full);
    return 1;
}

/* ---- the lock ------------------------------------------------------------------------------- */

static int lock_close(lua_State *L) {
    int *fd = luaL_checkudata(L, 1, STORE_LOCK_CLASS);
    if (*fd >= 0) close(*fd); /* gives the lock back */
    *fd = -1;
    return 0;
}

/* folder:lock(name) -> lock, or false when another process has it | nil, err.  The kernel gives it
 * back when the process ends, however that happens. */
static int folder_lock(lua_State *L) {
    const char *path, *name = store_check_name(L, 2);
    int root = store_check_folder(L, 1, &path);
    int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
    *fd = -1;
    luaL_setmetatable(L, STORE_LOCK_CLASS);
    *fd = lua_open_beneath(root, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
    if (*fd < 0) return store_fail(L, path, name, "open", errno);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0) return 1;
    if (errno != EWOULDBLOCK) return store_fail(L, path, name, "lock", errno);
    lua_pushboolean(L, 0);
    return 1;
}

/* ---- the module ----------------------------------------------------------------------------- */

/* store.environment() -> the variables that say where stores lie, by name; those that are set */
static int store_environment(lua_State *L) {
    static const char *const known[] = {
        "HOME",    "XDG_DATA_HOME", "XDG_CACHE_HOME",       "OLLAMA_MODELS",
        "HF_HOME", "HF_HUB_CACHE",  "HUGGINGFACE_HUB_CACHE"};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        lua_pushstring(L, secure_getenv(known[i]));
        lua_setfield(L, -2, known[i]);
    }
    return 1;
}

/* store.hash(text) -> 64 hexadecimal digits */
static int store_hash(lua_State *L) {
    size_t size;
    char digest[PERI_SHA256_TEXT];
    peri_error err;
    const char *text = luaL_checklstring(L, 1, &size);
    if (peri_sha256(text, size, digest, &err)) return luaL_error(L, "%s", err.text);
    lua_pushstring(L, digest);
    return 1;
}

static int open_module(lua_State *L) {
    static const luaL_Reg functions[] = {{"open", store_open},
                                         {"hash", store_hash},
                                         {"source", store_source},
                                         {"describe", store_describe},
                                         {"environment", store_environment},
                                         {NULL, NULL}};
    static const luaL_Reg folder_methods[] = {{"path", folder_path},
                                              {"stat", folder_stat},
                                              {"read", folder_read},
                                              {"list", folder_list},
                                              {"make", folder_make},
                                              {"remove", folder_remove},
                                              {"lock", folder_lock},
                                              {"source", store_folder_source},
                                              {"draft", store_folder_draft},
                                              {"close", folder_close},
                                              {NULL, NULL}};
    static const luaL_Reg lock_methods[] = {{"close", lock_close}, {NULL, NULL}};
    store_new_class(L, STORE_FOLDER_CLASS, folder_methods, folder_close);
    store_new_class(L, STORE_LOCK_CLASS, lock_methods, lock_close);
    store_blob_class(L);
    luaL_newlib(L, functions);
    return 1;
}

peri_status peri_lua_store_offer(peri_lua *lua, peri_error *err) {
    return peri_lua_module(lua, "store", open_module, err);
}
