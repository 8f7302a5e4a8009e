-- SPDX-License-Identifier: MIT
-- A concatenation of thousands of values.
-- expect: 
-- status: OTHER
local s = "return ''" .. (" .. 'x'"):rep(5000)
assert(load(s))
