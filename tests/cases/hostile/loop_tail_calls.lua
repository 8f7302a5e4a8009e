-- SPDX-License-Identifier: MIT
-- Tail calls without end.
-- expect: loop_tail_calls.lua:5: script ran 100 ms without waiting
-- status: TIMEOUT
local function f() return f() end
f()
