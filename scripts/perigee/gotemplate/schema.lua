-- SPDX-License-Identifier: MIT
-- The types behind Ollama's data: which fields a message, a call and a tool have, what they are
-- called in JSON, and how they print.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.gotemplate.value"
local json = require "perigee.gotemplate.json"

local M = {}

-- "Name:json" of each field; "?" behind it: left out of JSON when empty.
local function struct(name, fields, others)
  local type = { name = name, fields = {}, json = {} }
  for field, key, optional in fields:gmatch("(%w+):?([%w_$]*)(%??)") do
    type.fields[#type.fields + 1] = field
    if key ~= "" then
      type.json[field] = { name = key, omit = optional ~= "" }
    end
  end
  for k, v in pairs(others or {}) do
    type[k] = v
  end
  return type
end

local function prints_as_json(type)
  type.text = json.encode
  type.methods = { String = json.encode }
  return type
end

-- Names of JSON types: one prints as it is, several as a list; one alone is no list in JSON.
local function type_text(v)
  if v.n == 1 then
    return v[1]
  elseif v.n == 0 then
    return ""
  end
  local words = {}
  for i = 1, v.n do
    words[i] = v[i]
  end
  return T.concat({ "[", T.concat(words, v.n, " "), "]" }, 3)
end

M.PROPERTY_TYPE = { name = "api.PropertyType", elem = "string", text = type_text, single = true,
  methods = { String = type_text } }

local TYPESCRIPT <const> = { string = "string", number = "number", integer = "number",
  boolean = "boolean", array = "any[]", object = "Record<string, any>", null = "null" }

--- A property's type in TypeScript.
---@param v any
---@return string|perigee.jinja.Str
function M.typescript(v)
  if V.kind(v) ~= "struct" or v.type ~= M.PROPERTY then
    return "any"
  end
  S.charge(4)
  local list, words = v.f.AnyOf, {}
  for i = 1, list.n do
    words[i] = M.typescript(list[i])
  end
  if list.n == 0 then
    list = v.f.Type
    for i = 1, list.n do
      words[i] = TYPESCRIPT[T.raw(list[i])] or "any"
    end
  end
  return #words > 0 and T.concat(words, #words, " | ") or "any"
end

M.PROPERTY = struct("api.ToolProperty",
  "AnyOf:anyOf? Type:type? Items:items? Description:description? Enum:enum? "
  .. "Properties:properties? Required:required?", { methods = { ToTypeScriptType = M.typescript } })
M.PROPERTY_LIST = { name = "[]api.ToolProperty", elem = "struct" }
M.PARAMETERS = struct("template.templateToolFunctionParameters",
  "Type:type Defs:$defs? Items:items? Required:required? Properties:properties")
M.FUNCTION = struct("template.templateToolFunction",
  "Name:name Description:description? Parameters:parameters")
M.TOOL = prints_as_json(struct("template.templateTool", "Type:type Items:items? Function:function"))
M.TOOLS = prints_as_json { name = "template.templateTools", elem = "struct" }
M.CALL_FUNCTION = struct("template.templateToolCallFunction", "Index Name Arguments")
M.CALL = struct("template.templateToolCall", "ID Function")
M.CALLS = { name = "[]template.templateToolCall", elem = "struct" }
M.MESSAGE = struct("template.templateMessage",
  "Role Content Thinking Images ToolCalls ToolName ToolCallID")
M.MESSAGES = { name = "[]*template.templateMessage", elem = "struct" }
M.IMAGES = { name = "[]api.ImageData", elem = "string" }
M.ARGUMENTS = prints_as_json { name = "template.templateArgs", elem = "any", zero = V.NIL }

--- An empty property: what an absent name of .Properties is.
function M.empty_property()
  return V.struct({
    AnyOf = V.list({}, 0, M.PROPERTY_LIST, true), Type = V.list({}, 0, M.PROPERTY_TYPE, true),
    Items = V.NIL, Description = "", Enum = V.list({}, 0, nil, true), Properties = V.NIL,
    Required = V.list({}, 0, V.STRING_LIST, true),
  }, M.PROPERTY)
end

M.PROPERTIES = prints_as_json { name = "template.templateProperties", elem = "struct",
  zero = M.empty_property }
M.NESTED = { name = "map[string]api.ToolProperty", elem = "struct", zero = M.empty_property,
  text = json.encode, methods = { String = json.encode } }

local ROOT <const> = { "System", "Messages", "Tools", "Prompt", "Response", "Suffix", "Think",
  "ThinkLevel", "IsThinkSet" }

--- All names that a template may ask for: those of the data itself, and of what is in it.
---@return table<string, boolean>
function M.field_names()
  local names = {}
  for _, type in ipairs { { fields = ROOT }, M.MESSAGE, M.CALL, M.CALL_FUNCTION, M.TOOL,
    M.FUNCTION, M.PARAMETERS, M.PROPERTY } do
    for _, name in ipairs(type.fields) do names[name] = true end
  end
  return names
end

return M
