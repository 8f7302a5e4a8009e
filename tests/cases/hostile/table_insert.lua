-- SPDX-License-Identifier: MIT
-- Shifting a length that is not there.
-- expect: table_insert.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local t = setmetatable({}, { __len = function() return 1 << 60 end })
table.insert(t, 1, 0)
