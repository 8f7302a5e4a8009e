-- SPDX-License-Identifier: MIT
-- A handler that fails, and so on.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local function h()
  error("again")
end
for i = 1, math.huge do
  xpcall(error, h, i)
end
