-- SPDX-License-Identifier: MIT
-- A new global.
-- expect: globals_write.lua:5: assignment to undeclared global 'answer' (use local)
-- status: OTHER
answer = 42
