/* SPDX-License-Identifier: MIT
 *
 * store_int.h - shared by the files behind perigee.sys.store. */
#ifndef PERI_SCRIPT_STORE_INT_H
#define PERI_SCRIPT_STORE_INT_H

#include <stdint.h>

#include "script/sandbox_int.h"

#define STORE_FOLDER_CLASS "perigee.store_folder"
#define STORE_BLOB_CLASS   "perigee.store_blob"
#define STORE_LOCK_CLASS   "perigee.store_lock"

/* A class whose objects are closed by their method close, by <close> and by the collector. */
void store_new_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close);
/* nil and an err table: "PATH/NAME: cannot WHAT: <errno>"; NOT_FOUND for a missing file. */
int store_fail(lua_State *L, const char *path, const char *name, const char *what, int number);
/* The folder's path and descriptor (O_PATH) at idx; an error when it is closed. */
int store_check_folder(lua_State *L, int idx, const char **path);
/* A name below the folder at idx: relative, without NUL. */
const char *store_check_name(lua_State *L, int idx);
/* fsync a folder below `root`; 0 or errno. */
int store_sync_folder(int root, const char *name);

/* ---- lua_store_blob.c ----------------------------------------------------------------------- */
void store_blob_class(lua_State *L);
int store_source(lua_State *L);        /* store.source(path) */
int store_folder_source(lua_State *L); /* folder:source(name) */
int store_folder_draft(lua_State *L);  /* folder:draft(name[, path]) */

/* ---- lua_store_model.c ---------------------------------------------------------------------- */
int store_describe(lua_State *L); /* store.describe(path) */

#endif
