-- SPDX-License-Identifier: MIT
-- A length that is not there.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local t = setmetatable({}, { __len = function() return 2 ^ 30 // 1 | 0 end, __index = function() return 1 end })
while true do pcall(table.sort, t) end
