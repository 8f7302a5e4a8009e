-- SPDX-License-Identifier: MIT
-- JSON as encoding/json writes it: no blanks, sorted keys of maps, fields of structs in order,
-- < > & and the line separators escaped.  Marks of strings are kept.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.gotemplate.value"
local numbers = require "perigee.gotemplate.numbers"

local M = {}
local MAX_DEPTH <const> = 160

local ESCAPES <const> = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b",
  ["\f"] = "\\f", ["\\"] = "\\\\", ['"'] = '\\"', ["<"] = "\\u003c", [">"] = "\\u003e",
  ["&"] = "\\u0026" }
for code = 0, 31 do
  local char = string.char(code)
  ESCAPES[char] = ESCAPES[char] or ("\\u%04x"):format(code)
end

local function escape(s)
  s = s:gsub('[\0-\x1f"\\<>&]', ESCAPES)
  return (s:gsub("\u{2028}", "\\u2028"):gsub("\u{2029}", "\\u2029"))
end

local function add(out, text)
  local n = out.n + 1
  out.n, out[n] = n, text
end

local function add_string(out, v)
  add(out, '"')
  add(out, T.map(v, escape))
  add(out, '"')
end

local add_value

local function add_list(out, v, depth)
  if v.is_nil then
    return add(out, "null")
  elseif v.type.single and v.n == 1 then
    return add_value(out, v[1], depth)
  end
  add(out, "[")
  for i = 1, v.n do
    if i > 1 then
      add(out, ",")
    end
    add_value(out, v[i], depth + 1)
  end
  add(out, "]")
end

local function add_map(out, v, depth)
  if v.is_nil then
    return add(out, "null")
  end
  add(out, "{")
  for i, k in ipairs(v.ordered or v.keys) do
    if i > 1 then
      add(out, ",")
    end
    add_string(out, k)
    add(out, ":")
    add_value(out, v.map[T.raw(k)], depth + 1)
  end
  add(out, "}")
end

local function is_empty(v)
  local kind = V.kind(v)
  return kind == "nil" or kind ~= "struct" and not V.truth(v)
end

local function add_struct(out, v, depth)
  add(out, "{")
  local first = true
  for _, name in ipairs(v.type.fields) do
    local field, json = v.f[name], v.type.json and v.type.json[name]
    if not (json and json.omit and is_empty(field)) then
      add(out, first and "" or ",")
      add_string(out, json and json.name or name)
      add(out, ":")
      add_value(out, field, depth + 1)
      first = false
    end
  end
  add(out, "}")
end

local ADD <const> = { slice = add_list, map = add_map, struct = add_struct, string = add_string }

add_value = function(out, v, depth)
  S.charge(8)
  S.alloc(32)
  if depth > MAX_DEPTH then
    S.fail(("value nested deeper than %d has no JSON"):format(MAX_DEPTH))
  end
  local kind = V.kind(v)
  if ADD[kind] then
    return ADD[kind](out, v, depth)
  elseif kind == "bool" or kind == "int" then
    return add(out, tostring(v))
  elseif kind == "float" then
    return add(out, numbers.json(v))
  end
  add(out, "null")
end

--- v as JSON text.
---@param v any
---@return string|perigee.jinja.Str
function M.encode(v)
  local out = { n = 0 }
  add_value(out, v, 0)
  return T.concat(out, out.n)
end

return M
