-- SPDX-License-Identifier: MIT
-- A loop in a coroutine.
-- expect: coroutine.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local co = coroutine.create(function()
  while true do end
end)
coroutine.resume(co)
print("swallowed")
