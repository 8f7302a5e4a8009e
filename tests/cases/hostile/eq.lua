-- SPDX-License-Identifier: MIT
-- A loop in __eq.
-- expect: eq.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local m = { __eq = function()
  while true do end
end }
print(setmetatable({}, m) == setmetatable({}, m))
