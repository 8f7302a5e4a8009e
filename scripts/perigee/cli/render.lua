-- SPDX-License-Identifier: MIT
-- perigee render TARGET --messages M.json [--tools T.json]: print the exact text of a prompt.
-- host.arguments: { target = path or name, kind = "model" | "script" | "modelfile" | "name",
-- messages = JSON text, messages_name, tools? = JSON text, tools_name, think? = perigee.think,
-- generation_prompt = boolean }.
-- Messages are shown to the template as they are, unknown keys included; an assistant's system text
-- and tools are used where the files bring none.
local check = require "perigee.check"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local prompt = require "perigee.prompt"
local source = require "perigee.source"
local targets = require "perigee.cli.target"
local thinking = require "perigee.thinking"
local tool = require "perigee.tool"

local M = {}

-- The assistant with its Modelfile under it, and where its from stands; or nil and what is wrong.
local function read_target(arguments)
  local assistant, more = targets.read()
  if more == nil then return nil, arguments.target .. ": returned no assistant" end
  if not assistant then return nil, more end
  if more.problems and more.problems[1] then return nil, more.problems[1] end
  local whole, base, line = source.resolve(assistant)
  if not whole then return nil, base end
  if base and base.problems[1] then return nil, base.problems[1] end
  return whole, line.from_place
end

local function list_of_objects(text, what)
  if text == nil then return nil end
  local v, err = json.decode(text)
  if v == nil then return nil, what .. ": " .. tostring(err) end
  if not check.is_array(v) then return nil, what .. ": found no list, expected [{...}, ...]" end
  for i, item in ipairs(v) do
    if not check.is_object(item) then
      return nil, ("%s: entry %d is no object"):format(what, i)
    end
  end
  return v
end

local function with_system(messages, assistant)
  local first = messages[1]
  if not assistant.system or first and first.role == "system" then return messages end
  local out = { { role = "system", content = assistant.system } }
  return check.copy(table.move(messages, 1, #messages, 2, out), "messages")
end

---The text of a prompt.
---@param arguments table   host.arguments
---@return string?
---@return string|perigee.error|nil   what is wrong; with a text: a warning
function M.text(arguments)
  local messages, wrong = list_of_objects(arguments.messages, arguments.messages_name)
  if not messages then return nil, wrong or "no messages were given" end
  local tools, unfit = list_of_objects(arguments.tools, arguments.tools_name)
  if unfit then return nil, unfit end
  local assistant, text = read_target(arguments)
  if not assistant then return nil, text end
  local model, owner = source.open(assistant, text)
  if not model then return nil, owner end
  local info = model:info()
  local template, err = prompt.new(assistant.template, info)
  local segments
  local think = arguments.think
  if think == nil then think = assistant.parameters.think end
  if template then
    segments, err = prompt.render_raw(template, {
      messages = with_system(messages, assistant),
      tools = tools or tool.definitions(assistant.tools),
      think = think,
      is_closed = arguments.generation_prompt == false,
    }, info)
  end
  source.release(owner)
  if not segments then return nil, err end
  return prompt.text(segments), prompt.stands_in(template) or thinking.unheeded(template, think)
end

---The driver's main function.
---@param arguments table
---@return integer   exit status
function M.main(arguments)
  local text, err = M.text(arguments)
  if not text then
    host.write(2, "perigee: " .. tostring(err) .. "\n")
    return 1
  end
  if err then host.write(2, "perigee: warning: " .. tostring(err) .. "\n") end
  host.write(1, text)
  return 0
end

return M
