-- SPDX-License-Identifier: MIT
-- A __len that loops, called by table.insert.
-- expect: len.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local t = setmetatable({}, { __len = function()
  while true do end
end })
table.insert(t, 1)
