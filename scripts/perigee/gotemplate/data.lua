-- SPDX-License-Identifier: MIT
-- A conversation of ours (OpenAI's names) as the data Ollama hands to a template.  All text of
-- messages and tools is marked as input, except roles.  What Ollama's types do not hold (a
-- parameter's default, format or limits) is not seen by a template.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.gotemplate.value"
local chars = require "perigee.jinja.chars"
local json = require "perigee.sys.json"
local schema = require "perigee.gotemplate.schema"

local M = {}
local MAX_DEPTH <const> = 100

local function wrong(path, found, expected)
  S.fail(("%s: found %s, expected %s"):format(path, found, expected))
end

local function is_null(v)
  return v == nil or type(v) ~= "string" and type(v) ~= "boolean" and type(v) ~= "number"
    and json.kind(v) == "null"
end

-- A text as input; absent: empty.
local function text(v, path)
  if is_null(v) then
    return ""
  elseif getmetatable(v) == T.Str then
    return v
  elseif type(v) ~= "string" then
    wrong(path, "a " .. type(v), "text")
  end
  return T.input(chars.valid(v))
end

local function array(v, path)
  if is_null(v) then
    return {}
  elseif type(v) ~= "table" or v[1] == nil and next(v) ~= nil then
    wrong(path, type(v) == "table" and "an object" or "a " .. type(v), "a list")
  end
  return v
end

local function object(v, path)
  if is_null(v) then
    return {}
  elseif type(v) ~= "table" or v[1] ~= nil then
    wrong(path, type(v) == "table" and "a list" or "a " .. type(v), "an object")
  end
  return v
end

-- A list of converted elements; absent or null: Go's nil slice.
local function list(v, path, type, convert)
  local out, n = {}, 0
  for i, element in ipairs(array(v, path)) do
    n = i
    out[i] = convert(element, ("%s[%d]"):format(path, i))
  end
  return V.list(out, n, type, is_null(v))
end

local function any(v)
  return V.from(v, true)
end

------------------------------------------------------------ tools

local property

-- A map from names to properties.
local function properties(v, path, type, depth)
  local keys, map, ordered = {}, {}, {}
  v = object(v, path)
  for i, k in ipairs(V.keys_of(v)) do
    local key = chars.valid(k)
    ordered[i] = T.input(key)
    keys[i] = ordered[i]
    map[key] = property(v[k], path .. "." .. key, depth)
  end
  local out = V.map(V.sort(keys), map, type)
  out.ordered = type == schema.NESTED and ordered or nil
  return out
end

local function type_names(v, path)
  if type(v) == "string" then
    return V.list({ text(v, path) }, 1, schema.PROPERTY_TYPE)
  end
  return list(v, path, schema.PROPERTY_TYPE, text)
end

property = function(v, path, depth)
  depth = (depth or 0) + 1
  if depth > MAX_DEPTH then
    wrong(path, "schemas nested deeper than " .. MAX_DEPTH, "a simpler tool")
  end
  v = object(v, path)
  return V.struct({
    AnyOf = list(v.anyOf, path .. ".anyOf", schema.PROPERTY_LIST, function(one, at)
      return property(one, at, depth)
    end),
    Type = type_names(v.type, path .. ".type"), Items = any(v.items),
    Description = text(v.description, path .. ".description"),
    Enum = list(v.enum, path .. ".enum", nil, any),
    Properties = is_null(v.properties) and V.NIL
      or properties(v.properties, path .. ".properties", schema.NESTED, depth),
    Required = list(v.required, path .. ".required", V.STRING_LIST, text),
  }, schema.PROPERTY)
end

local function parameters(v, path)
  v = object(v, path)
  local props = properties(v.properties, path .. ".properties", schema.PROPERTIES)
  props.is_nil = is_null(v.properties)
  return V.struct({
    Type = text(v.type, path .. ".type"), Defs = any(v["$defs"]), Items = any(v.items),
    Required = list(v.required, path .. ".required", V.STRING_LIST, text), Properties = props,
  }, schema.PARAMETERS)
end

local function tool(v, path)
  v = object(v, path)
  local f, at = object(v["function"], path .. ".function"), path .. ".function"
  return V.struct({
    Type = text(v.type, path .. ".type"), Items = any(v.items),
    Function = V.struct({
      Name = text(f.name, at .. ".name"), Description = text(f.description, at .. ".description"),
      Parameters = parameters(f.parameters, at .. ".parameters"),
    }, schema.FUNCTION),
  }, schema.TOOL)
end

------------------------------------------------------------ messages

-- Arguments of a call: an object, or its JSON as text.
local function arguments(v, path)
  if type(v) == "string" then
    local decoded = json.decode(v)
    if type(decoded) ~= "table" or json.kind(decoded) ~= "object" then
      wrong(path, "text that is no JSON object", "an object")
    end
    v = decoded
  end
  local out = V.from(object(v, path), true)
  if V.kind(out) ~= "map" then
    wrong(path, "a list", "an object")
  end
  return V.map(out.keys, out.map, schema.ARGUMENTS)
end

local function call(v, path)
  v = object(v, path)
  local f, at = object(v["function"], path .. ".function"), path .. ".function"
  return V.struct({
    ID = text(v.id, path .. ".id"),
    Function = V.struct({
      Index = math.tointeger(tonumber(f.index) or 0) or 0, Name = text(f.name, at .. ".name"),
      Arguments = arguments(f.arguments, at .. ".arguments"),
    }, schema.CALL_FUNCTION),
  }, schema.CALL)
end

-- Content: a text, or parts of which the texts count.
local function content(v, path)
  if type(v) ~= "table" or getmetatable(v) == T.Str or is_null(v) then
    return text(v, path)
  end
  local parts, n = {}, 0
  for i, part in ipairs(array(v, path)) do
    local at = ("%s[%d]"):format(path, i)
    part = object(part, at)
    if part.type ~= "text" then
      wrong(at, ("a part of type '%s'"):format(tostring(part.type)), "type 'text'")
    end
    n = n + 1
    parts[n] = text(part.text, at .. ".text")
  end
  return T.concat(parts, n)
end

-- Name of the tool whose result this is: its own, or that of the call with its id.
local function tool_name(v, names, path)
  local name = text(v.tool_name or v.name, path .. ".name")
  if name == "" and type(v.tool_call_id) == "string" then
    name = names[v.tool_call_id] or ""
  end
  return name
end

local function message(v, names, path)
  v = object(v, path)
  if type(v.role) ~= "string" then
    wrong(path .. ".role", "a " .. type(v.role), "system, user, assistant or tool")
  end
  local calls = list(v.tool_calls, path .. ".tool_calls", schema.CALLS, call)
  for i = 1, calls.n do
    names[T.raw(calls[i].f.ID)] = calls[i].f.Function.f.Name
  end
  local role = v.role:lower()
  return V.struct({
    Role = chars.valid(role), Content = content(v.content, path .. ".content"),
    Thinking = text(v.thinking or v.reasoning_content, path .. ".thinking"),
    Images = list(v.images, path .. ".images", schema.IMAGES, text), ToolCalls = calls,
    ToolName = role == "tool" and tool_name(v, names, path) or "",
    ToolCallID = text(v.tool_call_id, path .. ".tool_call_id"),
  }, schema.MESSAGE)
end

-- Messages of one role in a row as one (except results of tools), and all system texts.
local function collate(messages)
  local out, n, system = {}, 0, {}
  for _, one in ipairs(messages) do
    local last, role = out[n], one.f.Role
    if role == "system" then
      system[#system + 1] = one.f.Content
    end
    if last and last.f.Role == role and role ~= "tool" then
      last.f.Content = T.concat({ last.f.Content, one.f.Content }, 2, "\n\n")
    else
      n = n + 1
      out[n] = one
    end
  end
  return V.list(out, n, schema.MESSAGES), T.concat(system, #system, "\n\n")
end

------------------------------------------------------------ conversation

---@class perigee.gotemplate.conversation
---@field messages table[]? role, content, thinking (or reasoning_content), tool_calls, tool_call_id
---@field tools table[]? definitions
---@field think boolean|string|nil whether to think, or how much (low, medium, high)
---@field prompt string? with suffix: fill in between; without messages: one message of the user
---@field suffix string?

---@class perigee.gotemplate.data
---@field messages table
---@field system string|perigee.jinja.Str
---@field tools table
---@field prompt string|perigee.jinja.Str
---@field suffix string|perigee.jinja.Str
---@field think table<string, any> what every render sees

local function thinking(think)
  if think ~= nil and type(think) ~= "boolean" and type(think) ~= "string" then
    wrong("think", "a " .. type(think), "true, false or a level")
  end
  local level = think == true and "medium" or think or ""
  return { Think = level ~= "", ThinkLevel = level, IsThinkSet = think ~= nil }
end

--- Ollama's data of a conversation.
---@param vars perigee.gotemplate.conversation
---@return perigee.gotemplate.data
function M.from(vars)
  local given, names = {}, {}
  for i, one in ipairs(array(vars.messages, "messages")) do
    given[i] = message(one, names, ("messages[%d]"):format(i))
  end
  local prompt, suffix = text(vars.prompt, "prompt"), text(vars.suffix, "suffix")
  if #given == 0 and prompt ~= "" and suffix == "" then
    given[1] = message({ role = "user", content = vars.prompt }, names, "prompt")
  end
  local messages, system = collate(given)
  return {
    messages = messages, system = system, prompt = prompt, suffix = suffix,
    tools = list(vars.tools, "tools", schema.TOOLS, tool), think = thinking(vars.think),
  }
end

--- The value a template starts with: a map of these names.
---@param values table<string, any>
---@param think table<string, any>
function M.root(values, think)
  local keys = {}
  for name, value in pairs(think) do
    values[name] = value
  end
  for name in pairs(values) do
    keys[#keys + 1] = name
  end
  return V.map(V.sort(keys), values)
end

return M
