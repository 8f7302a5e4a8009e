-- SPDX-License-Identifier: MIT
-- Memory errors caught in a loop.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
while true do
  pcall(string.rep, "x", 1 << 40)
  pcall(string.rep, "x", 20 << 20)
end
