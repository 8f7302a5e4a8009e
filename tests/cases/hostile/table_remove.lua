-- SPDX-License-Identifier: MIT
-- The same with table.remove.
-- expect: table_remove.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local t = setmetatable({}, { __len = function() return 1 << 60 end })
table.remove(t, 1)
