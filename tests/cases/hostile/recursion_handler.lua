-- SPDX-License-Identifier: MIT
-- Stack overflow in the handler of stack overflow.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local function f() return 1 + f() end
while true do xpcall(f, f) end
