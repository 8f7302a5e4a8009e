---@meta perigee.sys.out
-- SPDX-License-Identifier: MIT

local out = {}

---Write where print writes, with nothing between or after.
---@param ... string|number
function out.write(...) end

return out
