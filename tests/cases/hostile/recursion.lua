-- SPDX-License-Identifier: MIT
-- Recursion without end.
-- expect: recursion.lua:5:
-- status: OTHER|TIMEOUT|NOMEM
local function f() return 1 + f() end
f()
