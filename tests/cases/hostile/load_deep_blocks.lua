-- SPDX-License-Identifier: MIT
-- Functions in functions.
-- expect: C stack overflow
-- status: OTHER
assert(load(("return function() "):rep(1000) .. (" end"):rep(1000)))
