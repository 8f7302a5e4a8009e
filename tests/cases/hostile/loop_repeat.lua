-- SPDX-License-Identifier: MIT
-- A numeric loop without end.
-- expect: loop_repeat.lua:5: script ran 100 ms without waiting
-- status: TIMEOUT
for i = 1, math.huge do local x = i * 2 end
