-- SPDX-License-Identifier: MIT
-- Seeding.
-- expect: randomseed.lua:5: math.randomseed is not available
-- status: OTHER
math.randomseed(1)
