-- SPDX-License-Identifier: MIT
-- Running what a model calls.  Every call gets exactly one result, in the order of the calls;
-- what goes wrong (an unknown tool, wrong arguments, a refusal, an exception) is a result with
-- error = true, whose text tells the model what to do about it.  Tools run in the script's
-- coroutine and may wait; neighbours that declare parallel = true run side by side as tasks.
-- Small models repeat themselves: the same call for the third time in one answer is not run, the
-- model is told so, and the fifth time ends the answer.
local check = require "perigee.check"
local json = require "perigee.sys.json"
local loop = require "perigee.sys.loop"
local schema = require "perigee.schema"
local validate = require "perigee.validate"

local M = {}

local TOLD_AT <const>, HALT_AT <const> = 3, 5
local MAX_CALLS <const> = 8
local MAX_LEVEL <const> = 40

---@class perigee.result
---@field type "result"
---@field id string
---@field name string
---@field text string       what the model gets to see
---@field error? boolean    the text says what went wrong
---@field code? string      unknown_tool, arguments, refused, failed, repeated, budget, broken

---What one answer knows about its calls.
---@param tools perigee.tool[]
---@param budget perigee.budget
---@param approve? fun(call: table): boolean, string?
---@param ask_hooks? fun(call: table): perigee.verdict
---@return table
function M.new(tools, budget, approve, ask_hooks)
  local by_name, names = {}, {}
  for i, tool in ipairs(tools) do by_name[tool.name], names[i] = tool, tool.name end
  return {
    by_name = by_name, names = names, approve = approve, ask_hooks = ask_hooks,
    most = budget.calls or MAX_CALLS,
    n_call = 0, seen = {}, warnings = {},
  }
end

local function warn(state, code, text, more)
  local event = { type = "warning", code = code, text = text }
  for key, v in next, more or {} do event[key] = v end
  table.insert(state.warnings, event)
end

local function failed(call, code, text)
  return { type = "result", id = call.id, name = call.name or "", text = text, error = true,
    code = code }
end

local function key_of(call)
  if call.type == "broken" then return "\0" .. call.raw end
  return call.name .. "\0" .. json.encode(call.arguments, { sort = true })
end

local function refuse_repeated(state, call)
  local key = key_of(call)
  local n = (state.seen[key] or 0) + 1
  state.seen[key] = n
  if n < TOLD_AT then return nil end
  if n >= HALT_AT then state.halt = state.halt or "loop" end
  warn(state, "repeated", ("%s was called %d times with the same arguments"):format(
    call.name or "a tool", n))
  return failed(call, "repeated", ("This is call %d with the same arguments; it was not run again. "
    .. "Its result stands above. Answer with what is known, or call differently."):format(n))
end

local function refuse_beyond(state, call)
  state.n_call = state.n_call + 1
  if state.n_call <= state.most then return nil end
  if not state.is_exhausted then
    warn(state, "budget", ("the budget of %d calls for one answer is used up"):format(state.most))
  end
  state.has_refused = true
  return failed(call, "budget", ("The call was not run: the budget of %d calls is used up. "
    .. "Answer with what is known."):format(state.most))
end

local function refuse_unknown(state, call)
  local near = check.nearest(call.name, state.names)
  local text = ("There is no tool %q"):format(call.name)
  if near then text = text .. "; did you mean " .. near .. "?" else text = text .. "." end
  local known = #state.names > 0 and "The tools are " .. table.concat(state.names, ", ")
    or "There are no tools; answer without"
  return failed(call, "unknown_tool", text .. " " .. known .. ".")
end

-- Does the call have to be approved?  A function that fails or says nothing clear means yes.
local function needs_approval(tool, call)
  local need = tool.needs_approval
  if type(need) ~= "function" then return need == true end
  local ok, answer = pcall(need, call.arguments)
  return not ok or answer ~= false
end

local function refuse_unapproved(state, tool, call)
  if not needs_approval(tool, call) then return nil end
  local text = "The call was not run: it needs approval, and there is nobody to ask."
  if state.approve then
    local question = { name = tool.name, arguments = call.arguments, id = call.id,
      description = tool.description }
    local ok, answer, reason = pcall(state.approve, question)
    if ok and answer == true then return nil end
    if not ok then warn(state, "approval", "asking for approval failed: " .. tostring(answer)) end
    text = "The call was not run: the user refused it."
    if ok and type(reason) == "string" then text = text .. " " .. reason end
  else
    warn(state, "approval", tool.name .. " needs approval, and there is nobody to ask")
  end
  return failed(call, "refused", text)
end

-- The tool and the checked arguments of a call, or a result that says what is wrong.
local function look_up(state, call)
  local tool = state.by_name[call.name]
  if not tool then return nil, refuse_unknown(state, call) end
  local args, notes = validate.arguments(tool.name, tool.parameters, call.arguments, tool.strict)
  if not args then
    warn(state, "arguments", notes)
    return nil, failed(call, "arguments", notes)
  end
  for _, note in ipairs(notes) do warn(state, "coerced", tool.name .. ": " .. note) end
  call.arguments = args
  return tool
end

-- What the assistant's hook makes of a call.
local function heed_hooks(state, tool, call)
  local verdict = state.ask_hooks and state.ask_hooks(call) or {}
  if verdict.reason then
    local text = "The call was not run: the assistant refused it. " .. verdict.reason
    return nil, failed(call, "refused", text)
  elseif verdict.result then
    return nil, { type = "result", id = call.id, name = call.name, text = verdict.result }
  elseif verdict.changed then
    local refused
    call.name, call.arguments = verdict.changed.name, verdict.changed.arguments
    tool, refused = look_up(state, call)
    if not tool then return nil, refused end
  end
  if verdict.is_approved then return tool end
  local refused = refuse_unapproved(state, tool, call)
  if refused then return nil, refused end
  return tool
end

-- A result that says why the call does not run, or the tool.
local function prepare(state, call)
  local refused = refuse_repeated(state, call) or refuse_beyond(state, call)
  if refused then return refused end
  if call.type == "broken" then
    warn(state, "broken_call", "a call could not be read: " .. call.text, { raw = call.raw })
    local text = ("The call could not be read: %s. Write it again."):format(call.text)
    return failed(call, "broken", text)
  end
  local tool
  tool, refused = look_up(state, call)
  if tool then tool, refused = heed_hooks(state, tool, call) end
  return refused, tool
end

-- What a tool returned as text for the model.
local function as_text(v)
  if type(v) == "string" then return v end
  if v == nil then return "ok" end
  local copy, text = check.copy(v, "result")
  if text then return nil, text end
  local encoded, err = json.encode(copy)
  if not encoded then return nil, tostring(err) end
  return encoded
end

local function error_text(err)
  if type(err) == "string" then return err end
  if type(err) == "table" and type(rawget(err, "message")) == "string" then
    return rawget(err, "message")
  end
  return "an error that is a " .. type(err)
end

-- An error with the script's lines that led to it.
local RAISED <const> = {}

-- Runs where the error happens: error(text, level) knows the place of each level.
local function add_places(err)
  local places = {}
  for level = 2, MAX_LEVEL do
    local _, place = pcall(error, "", level)
    place = place:gsub(": $", "")
    if place ~= "" and not place:find("^perigee%.") then places[#places + 1] = "  " .. place end
  end
  return setmetatable({ err = err, places = table.concat(places, "\n") }, RAISED)
end

local function execute(tool, call, n_call)
  local ctx = { id = call.id, name = tool.name, call = n_call }
  return xpcall(tool.run, add_places, call.arguments, ctx)
end

-- The result of a finished run.
local function conclude(state, call, is_ok, value, err)
  if not is_ok then
    local places
    if getmetatable(value) == RAISED then value, places = value.err, value.places end
    local text = error_text(value)
    warn(state, "exception", ("%s raised an error: %s"):format(call.name, text),
      { error = value, traceback = places })
    return failed(call, "failed", "Error: " .. text)
  end
  if value == nil and err ~= nil then
    return failed(call, "failed", "Error: " .. error_text(err))
  end
  local text, wrong = as_text(value)
  if not text then
    text = ("%s returned what cannot be shown: %s"):format(call.name, wrong)
    warn(state, "exception", text)
    return failed(call, "failed", "Error: " .. text)
  end
  return { type = "result", id = call.id, name = call.name, text = text }
end

-- Run the calls first..last, all parallel, as tasks; results in their order.
local function run_parallel(state, jobs)
  -- When the answer is ended meanwhile, so are they.
  local _ <close> = setmetatable({}, { __close = function()
    for _, job in ipairs(jobs) do
      if job.task then job.task:cancel() end
    end
  end })
  for _, job in ipairs(jobs) do
    job.task = loop.spawn(execute, job.tool, job.call, job.n_call)
  end
  local results = {}
  for i, job in ipairs(jobs) do
    local is_ok, value, err = job.task:wait()
    if is_ok == nil then is_ok, value = false, value end
    results[i] = conclude(state, job.call, is_ok, value, err)
  end
  return results
end

---Run the calls of a turn from `at` on: one, or as many neighbours as may run in parallel.
---@param state table
---@param calls table[]   events "call" and "broken" of the parser
---@param at integer
---@return perigee.result[] results
function M.run(state, calls, at)
  local jobs = {}
  for i = at, #calls do
    local call = calls[i]
    local known = state.by_name[call.name]
    local is_parallel = call.type == "call" and known and known.parallel
    if i > at and not is_parallel then break end
    local refused, tool = prepare(state, call)
    if refused then
      if i == at then return { refused } end
      local results = run_parallel(state, jobs)
      results[#results + 1] = refused
      return results
    end
    jobs[#jobs + 1] = { tool = tool, call = call, n_call = state.n_call }
    if not is_parallel then break end
  end
  if #jobs > 1 then return run_parallel(state, jobs) end
  local job = jobs[1]
  return { conclude(state, job.call, execute(job.tool, job.call, job.n_call)) }
end

---The calls as a message keeps them.
---@param calls table[]
---@return table?   JSON array, nil without calls
function M.message_calls(calls)
  local out = {}
  for _, call in ipairs(calls) do
    if call.type == "call" then
      out[#out + 1] = json.object {
        { "id", call.id }, { "type", "function" },
        { "function", json.object { { "name", call.name }, { "arguments", call.arguments } } },
      }
    end
  end
  return #out > 0 and json.array(out) or nil
end

---One line for each tool, for people.
---@param tools perigee.tool[]
---@return { name: string, description: string?, signature: string }[]
function M.list(tools)
  local out = {}
  for i, tool in ipairs(tools) do
    out[i] = { name = tool.name, description = tool.description,
      signature = schema.signature(tool.name, tool.parameters) }
  end
  return out
end

return M
