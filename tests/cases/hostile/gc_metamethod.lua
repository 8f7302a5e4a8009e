-- SPDX-License-Identifier: MIT
-- A finaliser.
-- expect: gc_metamethod.lua:5: __gc is not allowed in a script
-- status: OTHER
setmetatable({}, { __gc = function() while true do end end })
