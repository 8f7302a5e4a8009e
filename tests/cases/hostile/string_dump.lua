-- SPDX-License-Identifier: MIT
-- Making bytecode.
-- expect: string_dump.lua:5: attempt to call a nil value (field 'dump')
-- status: OTHER
return string.dump(function() end)
