-- SPDX-License-Identifier: MIT
-- Two coroutines that hand over without end.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local function ping()
  while true do coroutine.yield() end
end
local a, b = coroutine.wrap(ping), coroutine.wrap(ping)
while true do a() b() end
