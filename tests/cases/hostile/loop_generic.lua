-- SPDX-License-Identifier: MIT
-- An iterator that never ends.
-- expect: loop_generic.lua:5: script ran 100 ms without waiting
-- status: TIMEOUT
for _ in function() return 1 end do end
