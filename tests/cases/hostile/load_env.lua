-- SPDX-License-Identifier: MIT
-- A chunk with a table of its own is stopped too.
-- expect: inner:1: script ran 100 ms without waiting
-- status: TIMEOUT
pcall(load("while true do end", "=inner", "t", {}))
print("swallowed")
