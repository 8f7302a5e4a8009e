-- SPDX-License-Identifier: MIT
-- A comparison that answers at random, over a large table.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local t = {}
for i = 1, 30000 do t[i] = i end
while true do
  table.sort(t, function() return math.random() < 0.5 end)
end
