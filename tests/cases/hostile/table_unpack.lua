-- SPDX-License-Identifier: MIT
-- More values than a stack holds.
-- expect: too many results to unpack
-- status: OTHER
return table.unpack({}, 1, 1 << 40)
