-- SPDX-License-Identifier: MIT
-- A length that does not fit.
-- expect: resulting string too large
-- status: OTHER
return ("xx"):rep(math.maxinteger)
