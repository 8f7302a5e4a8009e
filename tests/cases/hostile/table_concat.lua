-- SPDX-License-Identifier: MIT
-- Joining a list whose fields a C function makes up.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local t = setmetatable({}, { __index = rawlen })
local ok, s = pcall(table.concat, t, "", 1, 1 << 60)
print("swallowed")
