---@meta perigee.sys.error
-- SPDX-License-Identifier: MIT
-- The errors that functions return after nil.

---@class perigee.error
---@field code string      one word: "not_found", "corrupt", "nomem", "range", "cancelled", ...
---@field message string   what it prints as
---@field data? table

local errors = {}

---@param code string
---@param message string
---@param fields? table   copied into the error
---@return perigee.error
function errors.new(code, message, fields) end

---@param value any
---@return boolean
function errors.is(value) end

return errors
