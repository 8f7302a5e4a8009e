-- SPDX-License-Identifier: MIT
-- Source text without end.
-- expect: script ran 100 ms without waiting
-- status: TIMEOUT
load(function() return "x = x + 1 " end)
print("swallowed")
