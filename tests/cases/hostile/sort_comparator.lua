-- SPDX-License-Identifier: MIT
-- A comparison that never answers.
-- expect: sort_comparator.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
table.sort({ 3, 2, 1 }, function()
  while true do end
end)
