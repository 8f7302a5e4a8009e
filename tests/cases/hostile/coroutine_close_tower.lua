-- SPDX-License-Identifier: MIT
-- Coroutines that close each other: the C stack.
-- expect: coroutine_close_tower.lua
-- status: OTHER
local last
for i = 1, 1000 do
  local inner = last
  last = coroutine.create(function()
    local x <close> = setmetatable({}, { __close = function()
      if inner then assert(coroutine.close(inner)) end
    end })
    coroutine.yield()
  end)
  coroutine.resume(last)
end
assert(coroutine.close(last))
