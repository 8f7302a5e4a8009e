---@meta perigee.sys.fs
-- SPDX-License-Identifier: MIT
-- Files in the folders that were granted.  Failures are nil and an error; its code is "not_allowed"
-- where a grant is missing, and its message shows the option to add.

local fs = {}

---The text of a file.
---@param path string
---@param max_bytes? integer   1 MiB unless given
---@return string?
---@return perigee.error? err
function fs.read(path, max_bytes) end

---Names in a folder, sorted.
---@param folder string
---@return string[]?
---@return perigee.error? err
function fs.list(folder) end

---What lies at a path.
---@param path string
---@return { type: "file"|"folder"|"other", size: integer, mtime: number }?
---@return perigee.error? err
function fs.stat(path) end

---Is there something at a path?
---@param path string
---@return boolean?
---@return perigee.error? err
function fs.exists(path) end

---The file is replaced as a whole or not at all.
---@param path string
---@param text string
---@return boolean?
---@return perigee.error? err
function fs.write(path, text) end

return fs
