-- SPDX-License-Identifier: MIT
-- Go's text/template for the TEMPLATE of Modelfiles, with Ollama's functions and data:
--   local t, err = gotemplate.parse(source, "Modelfile:TEMPLATE")
--   local segments, err = t:render({ messages = messages, tools = tools, think = true })
-- Segments are { text =, input = }: text of messages and tools stays marked through every function.
-- A template without .Messages is rendered turn by turn (System, Prompt, Response), the last turn
-- up to its .Response.  Templates are hostile code: bounded steps, bytes and depth as in jinja.lua;
-- every error names its line and column.
-- Order to read: gotemplate/lexer, parser, value, exec, builtins, format, data, inspect.
local S = require "perigee.jinja.state"
local T = require "perigee.jinja.text"
local V = require "perigee.gotemplate.value"
local builtins = require "perigee.gotemplate.builtins"
local data = require "perigee.gotemplate.data"
local exec = require "perigee.gotemplate.exec"
local guard = require "perigee.jinja.guard"
local inspect = require "perigee.gotemplate.inspect"
local lexer = require "perigee.gotemplate.lexer"
local parser = require "perigee.gotemplate.parser"
local schema = require "perigee.gotemplate.schema"

local M = {}
local MAX_SOURCE <const> = 128 << 10

--- Ollama's template of a model that brings none.
M.DEFAULT = "{{ .Prompt }}"

---@class perigee.gotemplate.Template
---@field name string
---@field source string
---@field private list table
---@field private defined table<string, table>
---@field private names table<string, boolean> fields it uses, in lower case
---@field private turn table the tree of one turn of a legacy template
---@field private last table the tree of the last turn of a legacy template
local Template = {}
Template.__index = Template

local REPLY <const> = { kind = "action", at = 1, pipe = { kind = "pipe", at = 1, names = {},
  cmds = { { at = 1, { kind = "field", at = 1, names = { "Response" } } } } } }

local function parse(self)
  if #self.source > MAX_SOURCE then
    S.fail(("found a template of %d bytes, expected at most %d"):format(#self.source, MAX_SOURCE),
      1, "budget")
  end
  local _, bad = utf8.len(self.source)
  if bad then
    S.fail("found a byte that is not UTF-8, expected UTF-8 text", bad)
  end
  self.list, self.defined = parser.parse(lexer.lex(self.source), builtins.functions)
  self.names = inspect.names(self.list, self.defined)
  self.turn = table.move(self.list, 1, #self.list, 1, {})
  if not self.names.messages and not self.names.response then
    self.turn[#self.turn + 1] = REPLY
  end
  self.last = inspect.up_to_reply(self.turn)
  return true
end

--- Parse a template.  The name is for error texts.
---@param source string
---@param name string?
---@return perigee.gotemplate.Template?
---@return perigee.jinja.error? err
function M.parse(source, name)
  if type(source) ~= "string" then
    error(("found a %s as template, expected text"):format(type(source)), 2)
  end
  local self = setmetatable({ name = name or "template", source = source }, Template)
  local limit = guard.limits(nil)
  limit.memory, limit.steps = 256 << 20, 100 * limit.steps
  local ok, err = guard.run(self, limit, function() return parse(self) end)
  if not ok then
    return nil, err
  end
  return self
end

------------------------------------------------------------ rendering

-- A turn of a legacy template.
local function turn(self, list, values, think)
  exec.run(list, self.defined, data.root({
    System = values.system, Prompt = values.prompt, Response = values.response,
  }, think))
end

local function render_turns(self, d)
  local now = { system = "", prompt = "", response = "" }
  local function flush()
    turn(self, self.turn, now, d.think)
    now = { system = "", prompt = "", response = "" }
  end
  for i = 1, d.messages.n do
    local message = d.messages[i].f
    if message.Role == "system" then
      if now.prompt ~= "" or now.response ~= "" then
        flush()
      end
      now.system = message.Content
    elseif message.Role == "user" then
      if now.response ~= "" then
        flush()
      end
      now.prompt = message.Content
    elseif message.Role == "assistant" then
      now.response = message.Content
    end
  end
  turn(self, self.last, now, d.think)
end

local function render(self, vars)
  local d = data.from(vars)
  if d.prompt ~= "" and d.suffix ~= "" then
    exec.run(self.turn, self.defined, data.root({ Prompt = d.prompt, Suffix = d.suffix,
      Response = "" }, d.think))
  elseif self.names.messages then
    exec.run(self.list, self.defined, data.root({ System = d.system, Messages = d.messages,
      Tools = d.tools, Response = "" }, d.think))
  else
    render_turns(self, d)
  end
end

local function run(self, options, f)
  options = options or {}
  return guard.run(self, guard.limits(options.budget), function()
    S.now = options.now
    f()
    return T.segments(T.concat(S.out, S.n_out))
  end)
end

---@class perigee.gotemplate.options
---@field budget perigee.jinja.budget? limits that differ from the defaults
---@field now number|table|function|nil the time for currentDate and yesterdayDate: seconds since
---  1970, a table of year, month and day, or a function that gives one of these

--- Render a conversation.
---@param vars perigee.gotemplate.conversation
---@param options perigee.gotemplate.options?
---@return { text: string, input: boolean }[]? segments
---@return perigee.jinja.error? err
function Template:render(vars, options)
  return run(self, options, function() render(self, vars or {}) end)
end

--- Run the template over data of your own: decoded JSON or plain tables, seen as Go sees JSON in an
--- `any` (numbers are floats); all its text counts as input.
---@param value any
---@param options perigee.gotemplate.options?
---@return { text: string, input: boolean }[]? segments
---@return perigee.jinja.error? err
function Template:execute(value, options)
  return run(self, options, function()
    local root = V.from(value, true)
    exec.run(self.list, self.defined, root == V.NIL and V.NONE or root)
  end)
end

---@class perigee.gotemplate.info
---@field uses_messages boolean false: rendered turn by turn
---@field uses_system boolean
---@field uses_tools boolean
---@field uses_suffix boolean
---@field uses_think boolean looks at .Think, .ThinkLevel or .IsThinkSet
---@field uses_level boolean looks at .ThinkLevel
---@field uses_thinking boolean prints the thinking of earlier messages between two texts
---@field thinking { open: string, close: string }? those texts
---@field tool_tag string the text by which a call is known, "{" when any object may be one
---@field capabilities string[] of completion, tools, insert, thinking

--- What the template can do.
---@return perigee.gotemplate.info
function Template:info()
  local names, thinking = self.names, inspect.thinking(self.list)
  local capabilities = { "completion" }
  for _, pair in ipairs { { names.tools, "tools" }, { names.suffix, "insert" },
    { thinking, "thinking" } } do
    if pair[1] then
      capabilities[#capabilities + 1] = pair[2]
    end
  end
  return {
    uses_messages = names.messages == true, uses_system = names.system == true,
    uses_tools = names.tools == true, uses_suffix = names.suffix == true,
    uses_think = (names.think or names.thinklevel or names.isthinkset) == true,
    uses_level = names.thinklevel == true, uses_thinking = thinking ~= nil, thinking = thinking,
    tool_tag = inspect.tool_tag(self.list), capabilities = capabilities,
  }
end

--- Names at the beginning of a chain that nothing in Ollama's data has: they are empty, silently.
---@return { name: string, line: integer, column: integer }[]
function Template:strange()
  local out = inspect.strange(self.list, self.defined, schema.field_names())
  for i, one in ipairs(out) do
    local line, column = guard.position(self.source, one.at)
    out[i] = { name = one.name, line = line, column = column }
  end
  return out
end

return M
