-- SPDX-License-Identifier: MIT
-- A search for matches in a text that grows.
-- expect: gmatch.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
local s = ("a"):rep(100000)
while true do
  for w in s:gmatch("a") do end
end
