-- SPDX-License-Identifier: MIT
-- A misspelt global.
-- expect: globals_read.lua:5: undeclared global 'pritn'; did you mean 'print'?
-- status: OTHER
pritn("x")
