-- SPDX-License-Identifier: MIT
-- table.move over a range that has no end.
-- expect: table_move.lua:5: script ran 100 ms without waiting
-- status: TIMEOUT
table.move({}, 1, math.maxinteger - 1, 2)
