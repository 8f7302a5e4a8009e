-- SPDX-License-Identifier: MIT
-- A list of a million lists, compared and walked.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local t = {}
for i = 1, 200000 do t = { t } end
while true do
  local x = t
  while x do x = x[1] end
end
