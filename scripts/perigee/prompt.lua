-- SPDX-License-Identifier: MIT
-- From messages to the text of a prompt: the chat template is rendered with what templates expect
-- to find (messages, tools, bos_token, add_generation_prompt, ...).  Every string that comes from
-- a message is marked as input, so that "<|im_end|>" in it stays text and never becomes the
-- token.
-- A template is Jinja, or Go's text/template where it comes from a Modelfile ({ go = text }).
local check = require "perigee.check"
local clock = require "perigee.sys.time"
local gotemplate = require "perigee.gotemplate"
local jinja = require "perigee.jinja"
local json = require "perigee.sys.json"
local thinking = require "perigee.thinking"

local M = {}

---@class perigee.prompt
---@field source string   the template's text
---@field go? perigee.gotemplate.info   of a template of Go: what it can do
---@field is_default? boolean   that of Modelfiles, for want of another
---@field private parsed table

---@class perigee.prompt.conversation
---@field messages table[]
---@field tools? table        definitions
---@field think? perigee.think   for templates that know of thinking
---@field is_closed? boolean  do not begin the model's reply (Jinja only)

---@class perigee.segment
---@field text string
---@field input boolean   from a message: its text never becomes special tokens

local function new_go(template)
  local parsed, err = gotemplate.parse(template.go, template.name)
  if not parsed then return nil, check.as_err(err, "template") end
  return { source = template.go, parsed = parsed, go = parsed:info(),
    is_default = template.is_default }
end

---The template that holds: that of Modelfiles gives way to the model's own.
---@param template string|perigee.go_template|nil   the assistant's
---@param info table         model:info()
---@return string|perigee.go_template|nil
function M.choose(template, info)
  local is_default = type(template) == "table" and template.is_default
  if is_default and (info.template or "") ~= "" then return nil end
  return template
end

---Parse the chat template of an assistant or its model.
---@param template string|perigee.go_template|nil   the assistant's own
---@param info table         model:info()
---@param label? string      the assistant's, for texts of errors
---@return perigee.prompt?
---@return perigee.error? err
function M.new(template, info, label)
  template = M.choose(template, info)
  if type(template) == "table" then return new_go(template) end
  local source = template or info.template
  if not source or source == "" then
    local text = ("%s has no chat template: give the assistant a template, or use it without chat "
      .. "markup (perigee run --raw, or a session)"):format(info.path or "the model")
    return nil, check.err("template", text)
  end
  local own = (label and label .. ": " or "") .. "template"
  local name = template and own or "chat template of " .. (info.path or "the model")
  local parsed, err = jinja.parse(source, name)
  if not parsed then return nil, check.as_err(err, "template") end
  return { source = source, parsed = parsed }
end

-- The local time, for templates that show the date.
local function local_time()
  local fields = {}
  local text = clock.date("%Y %m %d %H %M %S")
  local names = { "year", "month", "day", "hour", "min", "sec" }
  for number in text:gmatch("%d+") do
    fields[names[1]] = math.tointeger(tonumber(number))
    table.remove(names, 1)
  end
  return fields
end

local function call_vars(calls)
  local out = {}
  for i, call in ipairs(calls) do
    local f = call["function"]
    out[i] = json.object {
      { "id", jinja.input(call.id or "") },
      { "type", "function" },
      { "function", json.object {
        { "name", jinja.input(f.name) }, { "arguments", jinja.input(f.arguments) },
      } },
    }
  end
  return json.array(out)
end

-- The role chooses the markup and is one of four words; everything else is input.
local function message_vars(message)
  local out = { { "role", message.role }, { "content", jinja.input(message.content) } }
  for _, key in ipairs { "name", "tool_call_id", "reasoning_content" } do
    if message[key] then out[#out + 1] = { key, jinja.input(message[key]) } end
  end
  if message.tool_calls and #message.tool_calls > 0 then
    out[#out + 1] = { "tool_calls", call_vars(message.tool_calls) }
  end
  return json.object(out)
end

-- A message as it came in JSON: all but its role is input.
local function raw_message(message)
  local out = {}
  for i, key in ipairs(json.keys(message)) do
    local v = message[key]
    out[i] = { key, key == "role" and v or jinja.input(v) }
  end
  return json.object(out)
end

local function render_go(prompt, conversation)
  if conversation.is_closed then
    return nil, check.err("template", "a template of Go always ends where the reply begins; leave "
      .. "--no-generation-prompt out")
  end
  local segments, err = prompt.parsed:render({
    messages = conversation.messages, tools = conversation.tools,
    think = thinking.of_go(prompt.go, conversation.think),
  }, { now = local_time })
  if not segments then return nil, check.as_err(err, "template") end
  return segments
end

local function render(prompt, list, conversation, info)
  local vars = {
    messages = json.array(list),
    bos_token = info.bos_text or "",
    eos_token = info.eos_text or "",
    add_generation_prompt = not conversation.is_closed,
  }
  local tools = conversation.tools
  if tools and #tools > 0 then vars.tools = jinja.input(tools) end
  thinking.tell(vars, prompt.parsed.reads, conversation.think)
  local segments, err = prompt.parsed:render(vars, { now = local_time })
  if not segments then return nil, check.as_err(err, "template") end
  return segments
end

---Render a conversation.
---@param prompt perigee.prompt
---@param conversation perigee.prompt.conversation
---@param info table   model:info()
---@return perigee.segment[]?
---@return perigee.error? err
function M.render(prompt, conversation, info)
  if prompt.go then return render_go(prompt, conversation) end
  local list = {}
  for i, message in ipairs(conversation.messages) do list[i] = message_vars(message) end
  return render(prompt, list, conversation, info)
end

---Render messages as they stand in a JSON file.
---@param prompt perigee.prompt
---@param conversation perigee.prompt.conversation   decoded JSON
---@param info table   model:info()
---@return perigee.segment[]?
---@return perigee.error? err
function M.render_raw(prompt, conversation, info)
  if prompt.go then return render_go(prompt, conversation) end
  local list = {}
  for i, message in ipairs(conversation.messages) do list[i] = raw_message(message) end
  return render(prompt, list, conversation, info)
end

---Does the template stand in for one that the model has not?  In words.
---@param prompt perigee.prompt
---@return string?
function M.stands_in(prompt)
  return prompt.is_default and "the model has no chat template, so a prompt is what was said, one "
    .. "text after the other ({{ .Prompt }}, as in Ollama); TEMPLATE in the Modelfile gives it one"
    or nil
end

---Does the template look at the tools?
---@param prompt perigee.prompt
---@return boolean
function M.knows_tools(prompt)
  if prompt.go then return prompt.go.uses_tools end
  return prompt.source:find("tools", 1, true) ~= nil
end

---The text of segments.
---@param segments perigee.segment[]
---@return string
function M.text(segments)
  local out = {}
  for i, segment in ipairs(segments) do out[i] = segment.text end
  return table.concat(out)
end

return M
