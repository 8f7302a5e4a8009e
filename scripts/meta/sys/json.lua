---@meta perigee.sys.json
-- SPDX-License-Identifier: MIT
-- JSON text and Lua values.  Objects remember the order of their keys, arrays know that they are
-- arrays, null is json.null, integers that do not fit keep their digits.

---@class perigee.sys.json
---@field null userdata
local json = {}

---How a value is written.
---@class perigee.json.options
---@field indent? integer|string
---@field sort? boolean          keys sorted instead of in their order
---@field ascii? boolean         other characters as \u escapes
---@field separators? string[]   between members, and between key and value
---@field python? boolean        as Python's json.dumps writes

---JSON text as a value; a null in it is perigee.null.
---@param text string
---@param options? table
---@return any?
---@return perigee.error? err   "line L, column C: found ..., expected ..."
function json.decode(text, options) end

---A value as JSON text.
---@param value any
---@param options? perigee.json.options
---@return string?
---@return perigee.error? err   names the place as $.key[3]
function json.encode(value, options) end

---A list as a JSON array, empty ones too.
---@param list table
---@return table   the same, marked as an array
function json.array(list) end

---A JSON object with its keys in this order.
---@param pairs_list any[][]   { { key, value }, ... }
---@return table   an object that keeps this order
function json.object(pairs_list) end

---An integer of any length.
---@param digits string
---@return any
function json.number(digits) end

---The keys of an object.
---@param object table
---@return string[]   in their order
function json.keys(object) end

---What a value would be in JSON.
---@param value any
---@return "object"|"array"|"null"|"number"|string   else the Lua type
function json.kind(value) end

return json
