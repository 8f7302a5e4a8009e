-- SPDX-License-Identifier: MIT
-- A loop in __index.
-- expect: index.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local t = setmetatable({}, { __index = function()
  while true do end
end })
print(t.x)
