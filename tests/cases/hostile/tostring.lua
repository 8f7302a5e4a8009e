-- SPDX-License-Identifier: MIT
-- A loop in __tostring, called by print.
-- expect: tostring.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
print(setmetatable({}, { __tostring = function()
  while true do end
end }))
