-- SPDX-License-Identifier: MIT
-- perigee show TARGET for assistants: Modelfiles, scripts that return a table; and a model file as
-- a Modelfile.  The parts asked for follow one another, as with a model file (cmd_show.c).
-- host.arguments: { target = path, kind = "model" | "script" | "modelfile", parts = { "summary" |
-- "modelfile" | "system" | "parameters" | "template", ... }, json = boolean, quiet = boolean }.
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local of_assistant = require "perigee.modelfile.of_assistant"
local parameters = require "perigee.parameters"
local printer = require "perigee.modelfile.printer"
local source = require "perigee.source"
local targets = require "perigee.cli.target"

local M = {}

---@class perigee.cli.shown
---@field target string
---@field assistant perigee.assistant      with its Modelfile under it
---@field result? perigee.modelfile.result  of the Modelfile
---@field own? table<string, any>           parameters of the script itself
---@field notes string[]                    for stderr

-- What the model file says: info(), asked once.
local function info_of(shown)
  if not shown.info then
    local model, owner = source.open(shown.assistant)
    if not model then error({ text = tostring(owner) }, 0) end
    shown.info = model:info()
    source.release(owner)
  end
  return shown.info
end

-- { { name, value, origin }, ... }: those of model and answer first, then those of sampling.
local function parameter_rows(shown)
  local rows, given, is_sampling = {}, shown.assistant.parameters, {}
  local origins = shown.result and shown.result.origins or {}
  local function origin(name)
    return shown.own and shown.own[name] ~= nil and shown.target or origins[name] or shown.target
  end
  for _, p in ipairs(engine.parameters()) do is_sampling[p.name] = true end
  for _, name in ipairs(check.keys(given)) do
    if not is_sampling[name] then rows[#rows + 1] = { name, given[name], origin(name) } end
  end
  for _, p in ipairs(engine.parameters()) do
    local v, from = given[p.name], origin(p.name)
    if v == nil then
      local advised = info_of(shown).sampling or {}
      v, from = advised[p.name], "the model file"
    end
    if v == nil then v, from = parameters.default(p.name), "default" end
    rows[#rows + 1] = { p.name, v, from }
  end
  return rows
end

local function value_text(v)
  if math.type(v) == "float" then return ("%.14g"):format(v) end
  return type(v) == "string" and v or json.encode(check.copy(v, "value"))
end

------------------------------------------------------------ parts

local PART = {}

function PART.parameters(shown)
  local rows, members, width, value_width = parameter_rows(shown), {}, 4, 5
  for i, row in ipairs(rows) do
    members[i] = { row[1], json.object { { "value", check.copy(row[2], row[1]) },
      { "origin", row[3] } } }
    row[2] = value_text(row[2]):gsub("%c", " ")
    width, value_width = math.max(width, #row[1]), math.max(value_width, #row[2])
  end
  local lines = {}
  table.insert(rows, 1, { "name", "value", "origin" })
  for i, row in ipairs(rows) do
    lines[i] = row[1] .. (" "):rep(width - #row[1] + 2) .. row[2]
      .. (" "):rep(value_width - #row[2] + 2) .. row[3] .. "\n"
  end
  return table.concat(lines), json.object(members)
end

function PART.system(shown)
  local system = shown.assistant.system
  if not system then shown.notes[#shown.notes + 1] = shown.target .. " has no system message" end
  return system or ""
end

function PART.template(shown)
  local template = shown.assistant.template
  if type(template) == "table" then return template.go end
  template = template or info_of(shown).template
  if not template then
    shown.notes[#shown.notes + 1] = "neither the assistant nor its model has a chat template"
  end
  return template or ""
end

-- The parameters of an assistant in Lua whose values are not what a Modelfile would take.
local function differing(shown)
  local out, ollama = {}, parameters.of_ollama()
  for _, row in ipairs(parameter_rows(shown)) do
    if row[2] ~= ollama[row[1]] then out[row[1]] = row[2] end
  end
  return out
end

function PART.modelfile(shown)
  if shown.result and not shown.own then
    local text, lost = printer.text(shown.result.instructions)
    table.move(lost, 1, #lost, #shown.notes + 1, shown.notes)
    return text
  end
  local values = shown.kind == "model" and {} or differing(shown)
  local list, lost = of_assistant.instructions(shown.assistant, values)
  for _, one in ipairs(shown.result and shown.result.instructions or {}) do
    if one.name == "LICENSE" or one.name == "REQUIRES" then list[#list + 1] = one end
  end
  local text, unsaid = printer.text(list)
  table.move(unsaid, 1, #unsaid, #lost + 1, lost)
  for _, what in ipairs(lost) do
    text = text .. "# not in a Modelfile: " .. what .. "\n"
    shown.notes[#shown.notes + 1] = "not in a Modelfile: " .. what
  end
  return text
end

-- The first line of a text, shortened.
local function brief(text)
  local line = text:match("^%s*([^\r\n]*)") or ""
  local cut = utf8.offset(line, 61)
  if cut and cut <= #line then line = line:sub(1, cut - 1) .. "..." end
  return line
end

local function template_words(template)
  if not template then return "the model's own" end
  if type(template) == "table" then return ("Go text/template, %d bytes"):format(#template.go) end
  return ("Jinja, %d bytes"):format(#template)
end

local function given_parameters(shown)
  local words, given = {}, shown.assistant.parameters
  local origins = shown.result and shown.result.origins or {}
  for _, name in ipairs(check.keys(given)) do
    local is_own = shown.own and shown.own[name] ~= nil
    if is_own or origins[name] ~= "default of Modelfiles" then
      words[#words + 1] = name .. " " .. value_text(given[name])
    end
  end
  return table.concat(words, ", ")
end

function PART.summary(shown)
  local a, result = shown.assistant, shown.result or { license = {} }
  local tools = {}
  for i, tool in ipairs(a.tools) do tools[i] = tool.name end
  local from = type(a.from) == "string" and a.from or "a model that the script opens"
  local format = type(a.format) == "table" and a.format.name or a.format
  local rows = {
    { "assistant", shown.target }, { "name", a.name }, { "description", a.description },
    { "from", from }, { "system", a.system and brief(a.system) },
    { "template", template_words(a.template) }, { "format", format },
    { "parameters", given_parameters(shown) },
    { "messages", #a.messages > 0 and tostring(#a.messages) },
    { "tools", table.concat(tools, ", ") },
    { "adapters", table.concat(a.adapters or {}, ", ") },
    { "draft", table.concat(a.draft or {}, ", ") }, { "requires", result.requires },
    { "license", result.license[1] and brief(result.license[1]) },
  }
  local lines, members = {}, {}
  for i = 1, 14 do
    local key, v = rows[i][1], rows[i][2]
    if v and v ~= "" then
      lines[#lines + 1] = ("%-13s  %s\n"):format(key, (v:gsub("%c", " ")))
      members[#members + 1] = { key, v }
    end
  end
  return table.concat(lines), json.object(members)
end

------------------------------------------------------------ the whole

local function read(arguments)
  local assistant, more = targets.read()
  if more == nil then
    error({ text = arguments.target .. ": returned no assistant, so there is nothing to show" }, 0)
  elseif not assistant then
    error({ text = tostring(more) }, 0)
  end
  local whole, base = source.resolve(assistant)
  if not whole then error({ text = tostring(base) }, 0) end
  local result = base or more.instructions and more or nil
  local notes = {}
  for _, list in ipairs { result and result.warnings or {}, result and result.problems or {} } do
    table.move(list, 1, #list, #notes + 1, notes)
  end
  return { target = arguments.target, kind = arguments.kind, assistant = whole, result = result,
    own = arguments.kind ~= "modelfile" and assistant.parameters or nil, notes = notes }
end

-- One part as text, or as JSON.
local function part_text(shown, name, arguments, is_only)
  local text, document = PART[name](shown)
  if not arguments.json then
    local is_open = text ~= "" and text:sub(-1) ~= "\n"
    return (is_only and "" or name .. "\n") .. text .. (is_open and "\n" or "")
  end
  return document or text
end

local function show(arguments)
  local shown, parts, members = read(arguments), arguments.parts, {}
  local texts = {}
  for i, name in ipairs(parts) do
    local part = part_text(shown, name, arguments, #parts == 1)
    texts[i], members[i] = part, { name, part }
  end
  if not arguments.json then
    host.write(1, table.concat(texts, "\n"))
  else
    local is_document = #parts == 1 and type(texts[1]) ~= "string"
    local document = is_document and texts[1] or json.object(members)
    host.write(1, assert(json.encode(document, { indent = 2 })) .. "\n")
  end
  for _, note in ipairs(arguments.quiet and {} or shown.notes) do
    host.write(2, "perigee: warning: " .. note .. "\n")
  end
  return 0
end

---The driver's main function.
---@param arguments table
---@return integer   exit status
function M.main(arguments)
  local ok, result = pcall(show, arguments)
  if ok then return result end
  if type(result) ~= "table" or not result.text then error(result, 0) end
  host.write(2, "perigee: " .. result.text .. "\n")
  return 1
end

return M
