/* SPDX-License-Identifier: MIT
 *
 * lua_engine.h - perigee.sys.engine: models and sessions for Lua.  What scripts see is described in
 * scripts/meta/sys/engine.lua. */
#ifndef PERI_SCRIPT_LUA_ENGINE_H
#define PERI_SCRIPT_LUA_ENGINE_H

#include "script/models.h"

/* Offer the module "engine" to the state, whose scheduler exists already.  models is borrowed and
 * must outlive the Lua state; seed is that of sessions that name none. */
peri_status peri_lua_engine_offer(peri_lua *lua, peri_models *models, uint64_t seed,
                                  peri_error *err);

#endif
