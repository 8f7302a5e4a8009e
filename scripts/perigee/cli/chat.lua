-- SPDX-License-Identifier: MIT
-- perigee run for a model or an assistant: the options laid over the assistant, the chat opened,
-- then one answer, or a conversation (repl.lua) on a terminal without a prompt.
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local grammar = require "perigee.grammar"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local perigee = require "perigee"
local screens = require "perigee.cli.screen"

local M = {}

local OK <const>, ERROR <const>, INTERRUPTED <const> = 0, 1, 130

-- { "15:-2.5", "16:false" } -> { [15] = -2.5, [16] = false }
local function read_bias(list)
  local out = {}
  for _, text in ipairs(list) do
    local id, bias = text:match("^(%d+):(.*)$")
    out[math.tointeger(tonumber(id))] = tonumber(bias) or false
  end
  return out
end

-- "json", or { name = path, text = JSON Schema }.
local function format_of(given)
  if type(given) ~= "table" then return given end
  local schema, err = json.decode(given.text)
  if type(schema) ~= "table" then
    error(check.err("invalid", ("--format: %s: %s"):format(given.name,
      tostring(err or "found no JSON Schema"))), 0)
  end
  local ok, text = grammar.of(schema, given.name)
  if not ok then error(check.err("invalid", "--format: " .. text), 0) end
  return schema
end

-- What the command line lays over an assistant.
local function over(arguments)
  local parameters = {}
  for _, name in ipairs(check.keys(arguments.parameters)) do
    parameters[name] = arguments.parameters[name]
  end
  if parameters.place then -- read here, where its name is known: later it is a key among others
    local ok, err = engine.check_place(parameters.place)
    if not ok then
      error(check.err("invalid", ("--place or PERIGEE_PLACE: %s"):format(tostring(err))), 0)
    end
  end
  if arguments.logit_bias then parameters.logit_bias = read_bias(arguments.logit_bias) end
  parameters.format = arguments.format and format_of(arguments.format)
  return { parameters = parameters, system = arguments.system }
end

-- All lines of stdin as they are, but for the last newline.
local function read_stdin()
  local lines = {}
  while true do
    local line, err = host.read_line("")
    if not line then
      if err then return nil, err end
      local text = table.concat(lines, "\n")
      local _, at = utf8.len(text)
      if not at then return text end
      return nil, check.err("text", ("stdin is no UTF-8: byte %d does not belong there"):format(at))
    end
    lines[#lines + 1] = line
  end
end

---The prompt: stdin, the file of --prompt-file, the words, each beginning on a line of its own.
---@param arguments table
---@return string? prompt   nil where none was given
---@return perigee.error? err
local function read_prompt(arguments)
  local parts = {}
  if arguments.has_stdin then
    local text, err = read_stdin()
    if not text then return nil, err end
    parts[1] = text
  end
  parts[#parts + 1] = arguments.prompt_file
  local words = table.concat(arguments.words, " ")
  parts[#parts + 1] = words ~= "" and words or nil
  local whole = {}
  for _, part in ipairs(parts) do
    part = part:gsub("\n$", "")
    if part ~= "" then whole[#whole + 1] = part end
  end
  return #whole > 0 and table.concat(whole, "\n") or nil
end

local function rate(n, ns)
  return ns and ns > 0 and ("%.1f tokens/s"):format(n * 1e9 / ns) or "in no time"
end

---The lines --verbose and /stats tell.
---@param chat table
---@return string[]
function M.stats_lines(chat)
  local info, s = chat:info(), chat:stats()
  local isa = info.isa and info.isa ~= "" and " (" .. info.isa .. ")" or ""
  local lines = { ("plugin %s%s: %s"):format(info.device or "?", isa, info.placement or "") }
  lines[2] = ("context %d of %d tokens, %d messages"):format(s.n_tok, s.n_ctx, s.n_message)
  if s.n_prompt then
    local cached = s.n_cached or 0
    lines[3] = ("prompts %d tokens, %s%s"):format(s.n_prompt, rate(s.n_prompt, s.prompt_ns),
      cached > 0 and (", %d of them from the prefix cache"):format(cached) or "")
  end
  if s.n_generated then
    lines[#lines + 1] = ("generated %d tokens, %s"):format(s.n_generated,
      rate(s.n_generated, s.generate_ns))
  end
  return lines
end

local function show_answer(chat, text, screen)
  local last
  for event in chat:send(text) do
    screen:show(event)
    if event.type == "done" then last = event end
  end
  return last
end

local PATIENCE_S <const> = 0.5

---Show the answer to a message.  Ctrl-C stops the answer, and soon after what it still waits for, a
---tool for instance.
---@param chat table
---@param text string
---@param screen perigee.cli.screen
---@return perigee.event? done   nil after a failure that was shown
function M.answer(chat, text, screen)
  local task = perigee.spawn(show_answer, chat, text, screen)
  local is_interrupted = false
  host.on_interrupt(function()
    if is_interrupted then return end
    is_interrupted = true
    chat:cancel()
    perigee.spawn(function()
      perigee.sleep(PATIENCE_S)
      task:cancel()
    end)
  end)
  local done, err = task:wait()
  host.on_interrupt(nil)
  if not done and is_interrupted then
    done = { type = "done", why = "cancelled" }
    screen:show(done)
  end
  screen:end_line()
  if done then return done end
  screen:fail(tostring(err))
end

-- A call that asks for approval, on a terminal.
local function approve(call)
  local line = host.read_line(("Run %s %s? [y/N] "):format(call.name, json.encode(call.arguments)))
  return line ~= nil and line:find("^%s*[yY]") ~= nil
end

local function one_answer(chat, prompt, arguments)
  local screen = screens.new(arguments, false)
  local done = M.answer(chat, prompt, screen)
  if arguments.verbose and arguments.verbose > 0 then
    for _, line in ipairs(M.stats_lines(chat)) do screen:note(line) end
  end
  if not done then return ERROR end
  return done.why == "cancelled" and INTERRUPTED or OK
end

-- What is wrong with an assistant in Lua begins with the file, unless it does already.
local function placed(err, arguments)
  local text = tostring(err)
  if arguments.kind ~= "script" or text:find("^[^%s:]+%.lua:") then return text end
  return arguments.target .. ": " .. text
end

---Run an assistant as the command line asks.
---@param assistant table
---@param arguments table   host.arguments
---@return integer status
function M.main(assistant, arguments)
  local prompt, err = read_prompt(arguments)
  if err then
    if err.code == "cancelled" then return INTERRUPTED end
    return screens.new(arguments, false):fail(tostring(err)) or ERROR
  end
  if not prompt and not arguments.is_terminal then
    local text = "the prompt is empty: give it as words, with --prompt-file, or on stdin"
    return screens.new(arguments, false):fail(text) or ERROR
  end
  local ok, above = pcall(over, arguments)
  if not ok then return screens.new(arguments, false):fail(tostring(above)) or ERROR end
  local options = { trace = arguments.trace, approve = not arguments.has_stdin and approve or nil,
    over = above, model = arguments.model }
  local chat <close>, wrong = M.open(assistant, options)
  if not chat then
    return screens.new(arguments, false):fail(placed(wrong, arguments)) or ERROR
  end
  if prompt then return one_answer(chat, prompt, arguments) end
  return require("perigee.cli.repl").run(chat, assistant, options, arguments)
end

---A chat of an unchecked assistant; what is wrong with it is an error like any other.
---@param assistant table
---@param options table
---@return table? chat
---@return any err
function M.open(assistant, options)
  local checked, text = require("perigee.assistant").check(assistant)
  if not checked then return nil, text end
  return perigee.chat(checked, options)
end

return M
