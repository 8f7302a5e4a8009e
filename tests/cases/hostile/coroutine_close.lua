-- SPDX-License-Identifier: MIT
-- A loop in a variable that coroutine.close closes.
-- expect: coroutine_close.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
local co = coroutine.create(function()
  local x <close> = setmetatable({}, { __close = function()
    while true do end
  end })
  coroutine.yield()
end)
coroutine.resume(co)
coroutine.close(co)
print("swallowed")
