-- SPDX-License-Identifier: MIT
-- The metatable of strings.
-- expect: attempt to index a boolean value
-- status: OTHER
getmetatable("").__index = print
