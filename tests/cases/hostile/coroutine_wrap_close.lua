-- SPDX-License-Identifier: MIT
-- A wrapped coroutine that fails and loops while it is closed.
-- expect: coroutine_wrap_close.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
local f = coroutine.wrap(function()
  local x <close> = setmetatable({}, { __close = function()
    while true do end
  end })
  error("first")
end)
pcall(f)
print("swallowed")
