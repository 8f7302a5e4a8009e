-- SPDX-License-Identifier: MIT
-- Each stopped __close leaves another one that loops.
-- expect: close_chain.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
local function loop()
  while true do end
end
local meta = { __close = loop }
local function f(n)
  local x <close> = setmetatable({}, meta)
  if n > 0 then return f(n - 1) end
  loop()
end
pcall(f, 100)
print("swallowed")
