-- SPDX-License-Identifier: MIT
-- A finaliser added behind the check does nothing.
-- expect: done
-- status: OK
for i = 1, 1000 do
  local m = {}
  setmetatable({}, m)
  m.__gc = function()
    print("swallowed")
    while true do end
  end
end
local s = ""
for i = 1, 2000 do s = s .. i end
print("done")
