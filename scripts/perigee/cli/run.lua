-- SPDX-License-Identifier: MIT
-- The driver behind `perigee run TARGET`: a model file or an assistant becomes a chat (chat.lua),
-- any other script runs to its end.
-- host.arguments: { kind = "model" | "script" | "modelfile" | "name", target = path or name,
-- words = { ... }, prompt_file?, system? = text, parameters = { ... },
-- logit_bias? = { "ID:X", ... },
-- is_usual_device = boolean: the parameter `device` is the environment's,
-- trace, has_stdin, is_terminal, shows_calls, quiet = boolean, verbose, columns = integer }.
local check = require "perigee.check"
local host = require "perigee.sys.host"
local targets = require "perigee.cli.target"

local M = {}

local function fail(text)
  host.write(2, "perigee: " .. text .. "\n")
  return 1
end

-- What was asked for and only a chat heeds.
local function idle_options(arguments)
  local names = {}
  for _, name in ipairs(check.keys(arguments.parameters)) do
    local is_asked_for = name ~= "device" or not arguments.is_usual_device
    if is_asked_for then names[#names + 1] = name end
  end
  for _, name in ipairs { "system", "prompt_file", "trace", "logit_bias" } do
    if arguments[name] then names[#names + 1] = name end
  end
  return names
end

local function warn_of_idle(arguments)
  local idle = idle_options(arguments)
  if #idle == 0 or arguments.quiet then return end
  local text = "perigee: warning: %s returned no assistant, so --%s had no effect\n"
  host.write(2, text:format(arguments.target, table.concat(idle, ", --"):gsub("_", "-")))
end

-- A file with a table that nobody returned: no error, but hardly what was meant.
local function warn_of_nothing(arguments)
  local text = host.read_file(arguments.target) or ""
  local does_something = text:find("require", 1, true) or text:find("print", 1, true)
  if arguments.quiet or does_something then return end
  local line = "perigee: warning: %s returned nothing, so there is nobody to talk to; an assistant "
    .. "is a file that returns a table: return { from = ... }\n"
  host.write(2, line:format(arguments.target))
end

local function warn(arguments, list)
  if arguments.quiet then return end
  for _, text in ipairs(list) do host.write(2, "perigee: warning: " .. text .. "\n") end
end

---@param arguments table
---@return integer|boolean|nil   exit status
function M.main(arguments)
  local assistant, more = targets.read()
  if more == nil then
    warn_of_idle(arguments)
    if assistant == nil then warn_of_nothing(arguments) end
    return assistant
  elseif not assistant then
    return fail(tostring(more))
  end
  local problem = more.problems and more.problems[1]
  if problem then return fail(problem) end
  warn(arguments, more.warnings or {})
  return require("perigee.cli.chat").main(assistant, arguments)
end

return M
