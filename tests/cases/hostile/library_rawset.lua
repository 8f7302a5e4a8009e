-- SPDX-License-Identifier: MIT
-- The same with rawset.
-- expect: library_rawset.lua:5: this table is read-only
-- status: OTHER
rawset(string, "find", print)
