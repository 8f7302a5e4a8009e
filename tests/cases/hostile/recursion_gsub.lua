-- SPDX-License-Identifier: MIT
-- Recursion through a C function.
-- expect: C stack overflow
-- status: OTHER
local function f() return ("x"):gsub("x", f) end
f()
