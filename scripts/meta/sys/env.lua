---@meta perigee.sys.env
-- SPDX-License-Identifier: MIT
-- Environment variables that were granted.

local env = {}

---@param name string
---@return string?              nil when it is not set
---@return perigee.error? err
function env.get(name) end

return env
