-- SPDX-License-Identifier: MIT
-- A table that grows.
-- expect: table_memory.lua:
-- status: NOMEM|TIMEOUT
local t = {}
for i = 1, math.huge do t[i] = i end
