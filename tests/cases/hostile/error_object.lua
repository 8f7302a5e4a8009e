-- SPDX-License-Identifier: MIT
-- An error object whose text takes for ever.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
error(setmetatable({}, { __tostring = function()
  while true do end
end }))
