-- SPDX-License-Identifier: MIT
-- Stack overflow caught in a loop.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local function f() return 1 + f() end
while true do pcall(f) end
