-- SPDX-License-Identifier: MIT
-- A handler of a usual error that never returns.
-- expect: xpcall_handler_loops.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
xpcall(error, function()
  while true do end
end, "x")
print("swallowed")
