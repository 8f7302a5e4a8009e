/* SPDX-License-Identifier: MIT
 *
 * sandbox_int.h - shared by the files of the sandbox. */
#ifndef PERI_SANDBOX_INT_H
#define PERI_SANDBOX_INT_H

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "base/text.h"
#include "script/lua_sandbox.h"

enum { LUA_MODULE_MAX = 32, LUA_SOURCE_MAX = 1 << 20, LUA_PATH_MAX = 4096 };

/* One entry of the chain of coroutines that run: each was resumed by the one below. */
typedef struct lua_frame {
    lua_State *L;
    struct lua_frame *below;
    bool is_host; /* the host started it: it cannot yield to a resume of the script */
} lua_frame;

typedef enum grant_kind { GRANT_READ, GRANT_WRITE, GRANT_ENV, GRANT_KINDS } grant_kind;
extern const char *const grant_name[GRANT_KINDS]; /* "fs.read", "fs.write", "env" */

/* Of a folder: its absolute name without ".", ".." and doubled "/"; of env: the variable. */
typedef struct lua_grant {
    grant_kind kind;
    char *value;
} lua_grant;

struct peri_lua {
    lua_State *L;
    peri_lua_budget budget;
    /* The slice.  `running` and `expired` are read and `expired` written by the signal handler on
     * this same thread. */
    lua_State *volatile running;
    volatile sig_atomic_t is_expired;
    lua_frame *frame;
    uint32_t depth, close_depth; /* nested slices; nested coroutine.close */
    int64_t slice_ns, start_ns;
    timer_t timer;
    pthread_t owner; /* whom the timer signals */
    bool has_timer;
    /* The last large block asked for: the coroutine, the values of its frame, and how many of them
     * the block would hold more if it were its stack. */
    lua_State *grown;
    int64_t n_grown, n_more;
    peri_lua *outer;     /* whose slice this one interrupted on the same thread */
    char stop_text[240]; /* where the slice ended; empty until the first raise */
    peri_text trace;     /* peri_lua_error_text */
    size_t trace_head;   /* bytes of it before the frames */
    /* Scripts. */
    struct {
        const char *name;
        lua_CFunction open;
    } module[LUA_MODULE_MAX];
    size_t n_module;
    char *script_dir, *work_dir, *config_dir, *user_dir;
    char *user_name, user_hash[65]; /* the script's file and its SHA-256; empty when none */
    lua_grant *grant;
    size_t n_grant;
    uint64_t seed, n_draw;
    void *user;
    void (*print)(void *user, const char *text, size_t size);
    bool (*ask)(void *user, const char *question);
};

/* Keys of the registry (lua_rawgetp). */
extern const char lua_key_user_env, lua_key_trusted_env; /* environments */
extern const char lua_key_user_loaded, lua_key_trusted_loaded,
    lua_key_user_files;              /* the last: name -> path */
extern const char lua_key_user_meta; /* weak set: metatables that the script set */
extern const char lua_key_frozen;    /* weak: read-only view -> the table behind */
extern const char lua_key_wait;      /* its address marks the yield of peri_lua_wait */

/* ---- lua_run.c ----------------------------------------------------------------------------- */
/* Enter and leave a coroutine: sets what the timer arms. */
void lua_frame_push(peri_lua *l, lua_frame *f, lua_State *L);
void lua_frame_pop(peri_lua *l, lua_frame *f);
_Noreturn void lua_raise_expired(lua_State *L);
void lua_slice_drop(peri_lua *l); /* delete the timer */
/* Of a peri_lua, for its budget: does a chain of __call without end ask for that block as its next
 * stack?  Then the slice is over. */
bool lua_is_endless(void *owner, size_t bytes);
/* Did the coroutine die when its slice was over?  Then hooks are off in it for good. */
bool lua_is_stopped(lua_State *co);
/* A coroutine of the script that waits for the host: bit 0 of its extra space, which otherwise
 * holds the peri_lua. */
bool lua_is_waiting(lua_State *co);
void lua_set_waiting(lua_State *co, bool is_waiting);
/* "FILE:LINE" of the innermost user function of the chain, or "". */
void lua_user_where(peri_lua *l, lua_State *L, char *out, size_t room);

/* ---- lua_guard.c: base functions and coroutines of the environments ------------------------ */
extern const luaL_Reg lua_guard_both[], lua_guard_user[], lua_guard_coroutine[];
int lua_guard_load(lua_State *L); /* upvalue 1: the default environment */
/* lua_resetthread inside the slice; the status; the error object on top of co. */
int lua_guard_close(lua_State *L, lua_State *co);

/* ---- lua_error.c --------------------------------------------------------------------------- */
int lua_open_error(lua_State *L);
/* Is the value an err table?  Then *code. */
bool lua_is_error(lua_State *L, int idx, peri_status *code);

/* ---- lua_require.c ------------------------------------------------------------------------- */
int lua_require_user(lua_State *L);
int lua_require_trusted(lua_State *L);
/* The next require of the script reads the modules beside it anew. */
void lua_forget_user(lua_State *L);

/* ---- lua_string.c, lua_table.c, lua_random.c ----------------------------------------------- */
extern const luaL_Reg lua_string_own[], lua_table_own[], lua_math_own[];

/* ---- lua_grants.c, lua_fs.c ---------------------------------------------------------------- */
int lua_open_grants(lua_State *L);
int lua_open_env(lua_State *L);
int lua_open_fs(lua_State *L);
int lua_open_time(lua_State *L); /* lua_sys.c */
int lua_open_out(lua_State *L);
/* Add "fs.read=DIR" and the like. */
peri_status lua_grant_add(peri_lua *l, const char *text, peri_error *err);
void lua_grant_free(peri_lua *l);
/* The grant of that kind which covers the absolute name, and the rest of the name below it ("." for
 * the folder itself); NULL when none does. */
const lua_grant *lua_grant_find(const peri_lua *l, grant_kind kind, const char *path,
                                const char **rest);
/* Absolute, with ".", ".." and "//" resolved by text alone.  false: empty, or longer than out. */
bool lua_path_absolute(const peri_lua *l, const char *path, char out[LUA_PATH_MAX]);
/* Open a name below the folder fd without leaving it by "..", a link or an absolute name; fd, or -1
 * and errno (EXDEV, ELOOP: it would leave). */
int lua_open_beneath(int fd, const char *name, int flags, unsigned mode);
/* Tests: false makes lua_open_beneath walk step by step, as on kernels without openat2. */
extern bool lua_has_openat2;
/* A regular file below the folder `dir` (not closed), at most max bytes, pushed as a string. */
peri_status lua_push_file(lua_State *L, int dir, const char *name, const char *shown, size_t max,
                          peri_error *err);

/* ---- lua_json.c ---------------------------------------------------------------------------- */
/* Sort entries first..n of the list on top, all strings, by bytes. */
void lua_sort_strings(lua_State *L, lua_Integer first, lua_Integer n);

/* ---- lua_buf.c: a growing buffer in the state's memory ------------------------------------- */
typedef struct lua_buf {
    lua_State *L;
    int idx; /* its stack slot: nil, then a userdata */
    char *data;
    size_t size, room;
    char first[512];
} lua_buf;
/* Takes one slot on top of the stack, which must stay where it is. */
void lua_buf_init(lua_buf *b, lua_State *L);
void lua_buf_add(lua_buf *b, const char *data, size_t n);
/* Room for n more bytes at the returned place; add them with b->size += n. */
char *lua_buf_room(lua_buf *b, size_t n);
/* Push the contents as a string. */
void lua_buf_push(lua_buf *b);

#endif
