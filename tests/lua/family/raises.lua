-- SPDX-License-Identifier: MIT
local t = nil
return { from = t.x }
