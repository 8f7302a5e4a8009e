/* SPDX-License-Identifier: MIT
 *
 * lua_policy.h - sampling policies in Lua: the host that core/run asks to run them.
 *
 * What a policy is, for its author: README.md, "Writing a sampling policy", and
 * scripts/meta/policy.lua.  A set of policies has a sandboxed state of its own, shared by all
 * sessions of an engine whose policies are the same texts with the same settings; it lives on the
 * engine's thread.  A policy has no upvalues that could remember anything, no globals, no pcall, no
 * coroutines and no clock: all it can keep is its state, which core/run keeps for it. */
#ifndef PERI_SCRIPT_LUA_POLICY_H
#define PERI_SCRIPT_LUA_POLICY_H

#include "run/policy.h"

enum {
    PERI_POLICY_INSTRUCTIONS = 5000000, /* of the VM, per call */
    PERI_POLICY_BYTES = 16 << 20,       /* of a set's state */
    PERI_POLICY_MS = 400                /* of processor time, per call */
};

/* A host for one engine; used on one thread at a time.  Freed after all samplers that use it. */
peri_status peri_lua_policies_new(peri_policy_host **out, peri_error *err);
void peri_lua_policies_free(peri_policy_host *host); /* accepts NULL */

#endif
