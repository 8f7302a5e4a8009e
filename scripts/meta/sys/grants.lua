---@meta perigee.sys.grants
-- SPDX-License-Identifier: MIT
-- What a script may do beyond computing.

---@class perigee.capabilities
---@field fs? { read?: string|string[], write?: string|string[] }   folders
---@field env? string|string[]                                     environment variables

local grants = {}

---Ask for what was not given on the command line; the answer is kept for the script as it is.
---@param capabilities perigee.capabilities
---@return boolean?
---@return perigee.error? err
function grants.request(capabilities) end

---@return string[]   "fs.read=/folder", ...
function grants.list() end

return grants
