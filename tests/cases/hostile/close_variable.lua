-- SPDX-License-Identifier: MIT
-- A loop in __close at the end of a block.
-- expect: close_variable.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
do
  local x <close> = setmetatable({}, { __close = function()
    while true do end
  end })
end
print("swallowed")
