-- SPDX-License-Identifier: MIT
-- Megabytes of source text, again and again.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
local s = ("local a = 1; "):rep(200000)
while true do load("do " .. s .. " end") end
