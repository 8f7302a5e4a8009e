-- SPDX-License-Identifier: MIT
-- Replacing a library's function.
-- expect: library_write.lua:5: assignment to field 'find' of a read-only table
-- status: OTHER
string.find = print
