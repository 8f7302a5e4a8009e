-- SPDX-License-Identifier: MIT
-- The driver behind every command that opens a model file itself: prints the path of the file that
-- a word stands for.  host.arguments: { name = path or name }.
local find = require "perigee.store.find"
local host = require "perigee.sys.host"

local M = {}

---@param arguments table
---@return integer   exit status
function M.main(arguments)
  local path, err = find.model_file(arguments.name)
  if not path then
    host.write(2, "perigee: " .. tostring(err) .. "\n")
    return 1
  end
  host.write(1, path)
  return 0
end

return M
