-- SPDX-License-Identifier: MIT
-- Two hundred layers of pcall.
-- expect: pcall_nested.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
local function f(n)
  if n == 0 then
    while true do end
  end
  pcall(f, n - 1)
  print("swallowed")
end
f(150)
