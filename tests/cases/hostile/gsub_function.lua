-- SPDX-License-Identifier: MIT
-- A replacement function that loops.
-- expect: gsub_function.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
print(("abc"):gsub(".", function()
  while true do end
end))
