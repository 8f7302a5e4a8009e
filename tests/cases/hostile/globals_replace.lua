-- SPDX-License-Identifier: MIT
-- Replacing a function.
-- expect: globals_replace.lua:5: assignment to 'print', which is read-only (use local)
-- status: OTHER
print = nil
