-- SPDX-License-Identifier: MIT
-- Source text with deep nesting.
-- expect: C stack overflow
-- status: OTHER
assert(load(("("):rep(10000) .. "1" .. (")"):rep(10000)))
