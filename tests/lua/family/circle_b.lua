-- SPDX-License-Identifier: MIT
return { from = "circle_a.lua" }
