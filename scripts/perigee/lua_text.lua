-- SPDX-License-Identifier: MIT
-- An assistant as the text of a Lua file that returns it: plain data as it is, functions as
-- comments.  Strings of several lines are in long brackets; keys are in a fixed order.
local check = require "perigee.check"
local json = require "perigee.sys.json"

local M = {}

local RESERVED <const> = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch("%a+") do
  RESERVED[word] = true
end

local function quoted(text)
  if not text:find("\n") or text:find("[%z\1-\8\11-\31\127]") then
    return (("%q"):format(text):gsub("\\\n", "\\n"):gsub("\r", "\\r"))
  end
  local level = ""
  while text:find("]" .. level .. "]", 1, true) do level = level .. "=" end
  return "[" .. level .. "[\n" .. text .. "]" .. level .. "]"
end

local function key_text(key)
  if type(key) ~= "string" then return "[" .. tostring(key) .. "]" end
  if key:find("^[%a_][%w_]*$") and not RESERVED[key] then return key end
  return "[" .. ("%q"):format(key) .. "]"
end

local value

local function members(t, indent)
  local lines, is_list, n = {}, check.is_list(t)
  if is_list then
    for i = 1, n do lines[i] = value(t[i], indent) end
    return lines
  end
  for i, key in ipairs(json.keys(t)) do
    lines[i] = key_text(key) .. " = " .. value(t[key], indent)
  end
  return lines
end

local function table_text(t, indent)
  local inside = indent .. "  "
  local lines = members(t, inside)
  if #lines == 0 then return "{}" end
  local short = "{ " .. table.concat(lines, ", ") .. " }"
  if #short < 72 and not short:find("\n") then return short end
  return "{\n" .. inside .. table.concat(lines, ",\n" .. inside) .. ",\n" .. indent .. "}"
end

function value(v, indent)
  local kind = type(v)
  if kind == "string" then return quoted(v) end
  if kind == "table" then return table_text(v, indent) end
  if kind == "function" then return "nil --[[ a function ]]" end
  if kind == "number" then return json.encode(v) end
  return tostring(v)
end

local ORDER <const> = { "name", "description", "from", "system", "parameters", "messages",
  "template", "format", "adapters", "draft", "budget", "capabilities", "sampler" }

local function hook_lines(chain)
  local out = {}
  for _, hooks in ipairs(chain or {}) do
    for _, name in ipairs { "route", "on_request", "on_token", "on_message", "on_tool_call" } do
      if hooks[name] then
        out[#out + 1] = ("  -- %s = a function of %s"):format(name, hooks.source)
      end
    end
  end
  return out
end

local function tool_lines(tools)
  local out = {}
  for _, tool in ipairs(tools) do
    out[#out + 1] = ("  -- tool %s: a function; %s"):format(tool.name,
      (tool.description or "no description"):gsub("%c", " "))
  end
  return out
end

---@param assistant perigee.assistant   with everything it builds on
---@param from string|nil               the path of its model; nil: no file
---@return string
function M.text(assistant, from)
  local lines = { "return {" }
  for _, key in ipairs(ORDER) do
    local v = assistant[key]
    if key == "from" then v = from end
    if v ~= nil and (type(v) ~= "table" or next(v) ~= nil) then
      lines[#lines + 1] = ("  %s = %s,"):format(key, value(v, "  "))
    elseif key == "from" then
      lines[#lines + 1] = "  -- from: a model that the script opens itself"
    end
  end
  for _, list in ipairs { tool_lines(assistant.tools or {}), hook_lines(assistant.chain) } do
    table.move(list, 1, #list, #lines + 1, lines)
  end
  lines[#lines + 1] = "}\n"
  return table.concat(lines, "\n")
end

return M
