-- SPDX-License-Identifier: MIT
-- Errors whose handling fails.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
while true do
  xpcall(function() error(setmetatable({}, { __index = error })) end, function(e) return e.x.y.z end)
end
