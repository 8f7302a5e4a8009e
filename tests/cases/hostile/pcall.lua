-- SPDX-License-Identifier: MIT
-- The end swallowed by pcall, again and again.
-- expect: pcall.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
while true do
  pcall(function()
    while true do end
  end)
  print("swallowed")
end
