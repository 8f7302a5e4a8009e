-- SPDX-License-Identifier: MIT
-- A string larger than the memory allowed.
-- expect: rep_memory.lua:5: script used up its 64 MiB of memory
-- status: NOMEM
return ("x"):rep(2 ^ 40 // 1 | 0)
