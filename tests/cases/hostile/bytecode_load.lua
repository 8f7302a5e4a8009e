-- SPDX-License-Identifier: MIT
-- A precompiled chunk through load.
-- expect: attempt to load
-- status: OTHER
assert(load("\27Lua\x54\0\x19\x93\r\n\x1a\n", "b", "b"))
