-- SPDX-License-Identifier: MIT
-- Recursion in the text of an error.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local function f() error(setmetatable({}, { __tostring = f })) end
while true do pcall(f) end
