-- SPDX-License-Identifier: MIT
-- A string that doubles.
-- expect: concat_memory.lua:
-- status: NOMEM|TIMEOUT
local s = "x"
while true do s = s .. s end
