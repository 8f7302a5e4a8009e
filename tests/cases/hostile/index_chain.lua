-- SPDX-License-Identifier: MIT
-- A table that is its own __index.
-- expect: index_chain.lua:8: '__index' chain too long; possible loop
-- status: OTHER
local m = {}
m.__index = m
setmetatable(m, m)
return m.x
