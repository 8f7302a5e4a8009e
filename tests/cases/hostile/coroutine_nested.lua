-- SPDX-License-Identifier: MIT
-- A loop fifty coroutines deep.
-- expect: coroutine_nested.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
local function deep(n)
  if n == 0 then
    while true do end
  end
  coroutine.resume(coroutine.create(deep), n - 1)
  print("swallowed")
end
deep(50)
