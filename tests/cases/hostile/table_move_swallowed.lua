-- SPDX-License-Identifier: MIT
-- The same, caught.
-- expect: table_move_swallowed.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
while true do
  pcall(table.move, {}, 1, 1 << 60, 2)
  print("swallowed")
end
