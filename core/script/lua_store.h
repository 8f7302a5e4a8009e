/* SPDX-License-Identifier: MIT
 *
 * lua_store.h - perigee.sys.store for our own modules: folders of a store of models, files that
 * become visible whole and synced, and what a model file says.  Described in
 * scripts/meta/sys/store.lua. */
#ifndef PERI_SCRIPT_LUA_STORE_H
#define PERI_SCRIPT_LUA_STORE_H

#include "script/lua_sandbox.h"

peri_status peri_lua_store_offer(peri_lua *lua, peri_error *err);

#endif
