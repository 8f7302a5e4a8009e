-- SPDX-License-Identifier: MIT
-- The same with string.byte.
-- expect: string slice too long
-- status: OTHER
return ("x"):rep(10 << 20):byte(1, -1)
