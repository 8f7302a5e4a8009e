-- SPDX-License-Identifier: MIT
-- Recursion without end.
-- expect: recursion.lua:5: stack overflow
-- status: OTHER
local function f() return 1 + f() end
f()
