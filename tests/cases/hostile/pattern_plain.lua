-- SPDX-License-Identifier: MIT
-- A plain search is linear, so this loop is stopped between two.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local s, p = ("a"):rep(1000000), ("a"):rep(500000) .. "b"
while true do
  s:find(p, 1, true)
end
