-- SPDX-License-Identifier: MIT
-- Backtracking over greedy repetitions, swallowed.
-- expect: pattern_star.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
local s = ("a"):rep(200)
while true do
  pcall(string.match, s, ("a*"):rep(30) .. "b")
  print("swallowed")
end
