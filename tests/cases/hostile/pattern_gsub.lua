-- SPDX-License-Identifier: MIT
-- Quadratic gsub over a long text.
-- expect: pattern_gsub.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local s = ("x"):rep(1000000)
print((s:gsub(".-b", "")))
