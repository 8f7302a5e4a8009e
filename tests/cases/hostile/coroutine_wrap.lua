-- SPDX-License-Identifier: MIT
-- A loop in a wrapped coroutine, behind pcall.
-- expect: coroutine_wrap.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local f = coroutine.wrap(function()
  while true do end
end)
pcall(f)
print("swallowed")
