-- SPDX-License-Identifier: MIT
-- A stopped coroutine whose variable loops when it is closed.
-- expect: coroutine_close_dead.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local function loop()
  while true do end
end
local co = coroutine.create(function()
  local x <close> = setmetatable({}, { __close = loop })
  loop()
end)
pcall(coroutine.resume, co)
pcall(coroutine.close, co)
print("swallowed")
