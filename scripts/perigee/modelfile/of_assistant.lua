-- SPDX-License-Identifier: MIT
-- An assistant in Lua as the instructions of a Modelfile, and what of it no Modelfile can say.
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local json = require "perigee.sys.json"
local host = require "perigee.sys.host"
local parameters = require "perigee.modelfile.parameters"

local M = {}

-- Keys of an assistant that have no instruction, and what they are called in texts.
local LOST <const> = { name = "its name", description = "its description", budget = "its budget",
  capabilities = "its capabilities", chain = "its hooks",
  tools = "its tools (TOOL names a Lua file that returns them)" }

local function model_path(from)
  if type(from) == "string" then
    local there = host.look(engine.find(from))
    return there and there.path or from
  end
  local model = engine.wrapped[from]
  return model and model:info().path
end

-- An order of samplers as one text; policies cannot be said.
local function add_chain(out, lost, samplers)
  local names = {}
  for _, link in ipairs(samplers) do
    if type(link) == "string" then
      names[#names + 1] = link
    else
      lost[#lost + 1] = "its sampling policy " .. link.policy
    end
  end
  local text = #names > 0 and table.concat(names, ";") or "none"
  out[#out + 1] = { name = "PARAMETER", key = "samplers", value = text }
end

local function add_parameters(out, lost, given)
  local names = check.keys(given)
  for _, name in ipairs(names) do
    if name == "format" and type(given.format) == "table" then
      given = check.shallow(given)
      given.format = json.encode(given.format)
    end
    if name == "samplers" then add_chain(out, lost, given.samplers) end
    for _, text in ipairs(name == "samplers" and {} or parameters.texts(given[name])) do
      out[#out + 1] = { name = "PARAMETER", key = parameters.spelling[name] or name, value = text }
    end
  end
end

local function add_template(out, lost, template)
  if type(template) == "table" and not template.is_default then
    out[#out + 1] = { name = "TEMPLATE", value = template.go }
  elseif type(template) == "string" then
    lost[#lost + 1] = "its template, which is Jinja"
  end
end

local function add_messages(out, lost, messages)
  for _, message in ipairs(messages) do
    if message.role == "tool" or message.tool_calls then
      lost[#lost + 1] = "messages with calls of tools"
    else
      out[#out + 1] = { name = "MESSAGE", key = message.role, value = message.content }
    end
  end
end

---@param assistant perigee.assistant   checked
---@param values perigee.parameters     those to be written
---@return { name: string, key?: string, value: string }[]
---@return string[] lost   in words
function M.instructions(assistant, values)
  local out, lost = {}, {}
  local path = model_path(assistant.from)
  if path then out[1] = { name = "FROM", value = path } else lost[1] = "its model" end
  add_template(out, lost, assistant.template)
  if assistant.system then out[#out + 1] = { name = "SYSTEM", value = assistant.system } end
  if type(assistant.format) == "string" then
    out[#out + 1] = { name = "PARSER", value = assistant.format }
  elseif assistant.format then
    lost[#lost + 1] = "its format, which is a table"
  end
  for key, name in next, { adapters = "ADAPTER", draft = "DRAFT" } do
    for _, file in ipairs(assistant[key] or {}) do
      out[#out + 1] = { name = name, value = file }
    end
  end
  add_parameters(out, lost, values)
  add_messages(out, lost, assistant.messages)
  for _, key in ipairs(check.keys(LOST)) do
    local v = assistant[key]
    if v and (type(v) ~= "table" or next(v)) then lost[#lost + 1] = LOST[key] end
  end
  return out, lost
end

return M
