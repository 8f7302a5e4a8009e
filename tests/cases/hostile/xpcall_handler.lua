-- SPDX-License-Identifier: MIT
-- A message handler that goes on.
-- expect: xpcall_handler.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
xpcall(function()
  while true do end
end, function()
  print("swallowed")
  while true do end
end)
print("swallowed")
