-- SPDX-License-Identifier: MIT
-- A loop of goto.
-- expect: loop_goto.lua:6: script ran 100 ms without waiting
-- status: TIMEOUT
::again::
goto again
