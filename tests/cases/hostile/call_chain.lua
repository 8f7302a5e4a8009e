-- SPDX-License-Identifier: MIT
-- A __call that is its own table: a loop inside the VM.
-- expect: call_chain.lua:7: script ran 100 ms without waiting
-- status: TIMEOUT
local t = {}
setmetatable(t, { __call = t })
pcall(t)
print("swallowed")
