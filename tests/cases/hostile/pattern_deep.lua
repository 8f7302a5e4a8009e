-- SPDX-License-Identifier: MIT
-- A pattern that would recurse without end.
-- expect: pattern too complex
-- status: OTHER
print(("x"):rep(300):match(("x?"):rep(300)))
