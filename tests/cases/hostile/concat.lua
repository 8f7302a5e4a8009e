-- SPDX-License-Identifier: MIT
-- A loop in __concat.
-- expect: concat.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
print(setmetatable({}, { __concat = function()
  while true do end
end }) .. "x")
