-- SPDX-License-Identifier: MIT
-- A plain endless loop.
-- expect: loop.lua:5: script ran 100 ms without waiting
-- status: TIMEOUT
while true do end
