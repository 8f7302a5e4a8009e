-- SPDX-License-Identifier: MIT
-- Closures kept in a list.
-- expect: closure_memory.lua:
-- status: NOMEM|TIMEOUT
local list
while true do
  local before = list
  list = function() return before end
end
