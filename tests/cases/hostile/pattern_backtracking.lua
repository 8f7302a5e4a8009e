-- SPDX-License-Identifier: MIT
-- Backtracking: 26 letters and ten lazy repetitions.
-- expect: pattern_backtracking.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local s = ("a"):rep(60)
print(s:find(("a-"):rep(20) .. "b"))
