-- SPDX-License-Identifier: MIT
-- Coroutines without end.
-- expect: coroutine_memory.lua:
-- status: NOMEM|TIMEOUT
local t = {}
while true do
  t[#t + 1] = coroutine.create(print)
end
