-- SPDX-License-Identifier: MIT
-- Recursion through __tostring.
-- expect: C stack overflow
-- status: OTHER
local t = setmetatable({}, { __tostring = function(t) return tostring(t) end })
return tostring(t)
