-- SPDX-License-Identifier: MIT
-- perigee show TARGET for assistants: Modelfiles, scripts that return a table; and a model file as
-- a Modelfile; and for models of a store.  The parts asked for follow one another, as with a model
-- file (cmd_show.c).
-- host.arguments: { target = path or name, kind = "model" | "script" | "modelfile" | "name",
-- parts = { "summary" | "modelfile" | "lua" | "system" | "parameters" | "template", ... }, json,
-- quiet = boolean }.
local assistants = require "perigee.assistant"
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local lua_text = require "perigee.lua_text"
local of_assistant = require "perigee.modelfile.of_assistant"
local parameters = require "perigee.parameters"
local printer = require "perigee.modelfile.printer"
local prompt = require "perigee.prompt"
local sampler = require "perigee.sampler"
local source = require "perigee.source"
local targets = require "perigee.cli.target"

local M = {}

-- Kinds of targets that are a Modelfile's instructions.
local MAX_COLUMN <const> = 30 -- a longer value does not push the others aside
local IS_MODELFILE <const> = { modelfile = true, name = true }

---@class perigee.cli.shown
---@field target string
---@field assistant perigee.assistant      with its Modelfile under it
---@field result? perigee.modelfile.result  of the Modelfile
---@field own? table<string, any>           parameters of the script itself
---@field line perigee.lineage               what it builds on
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
  local own = not IS_MODELFILE[shown.kind] and shown.line.origins or {}
  local function origin(name)
    return own[name] or origins[name] or shown.target
  end
  for _, p in ipairs(engine.parameters()) do is_sampling[p.name] = true end
  for _, name in ipairs(check.keys(given)) do
    if not is_sampling[name] and name ~= "samplers" then
      rows[#rows + 1] = { name, given[name], origin(name) }
    end
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
  local order, from = given.samplers, origin "samplers"
  if not order then
    order = (info_of(shown).sampling or {}).samplers
    from = order and "the model file" or "default"
    order = assert(engine.order(order or ""))
  end
  rows[#rows + 1] = { "samplers", order, from }
  return rows
end

-- A value as JSON can hold it: the token ids of logit_bias become texts.
local function as_json(v)
  if type(v) ~= "table" or check.is_list(v) then return (check.copy(v, "value")) end
  local ids, members = {}, {}
  for id in next, v do ids[#ids + 1] = id end
  table.sort(ids)
  for i, id in ipairs(ids) do members[i] = { tostring(id), v[id] } end
  return json.object(members)
end

-- The order of samplers, policies with their settings and without their source.
local function samplers_data(samplers)
  local out = {}
  for i, link in ipairs(samplers) do
    out[i] = type(link) == "string" and link or json.object { { "policy", link.policy },
      { "settings", check.copy(link.settings, "settings") } }
  end
  return json.array(out)
end

local function value_text(v)
  if math.type(v) == "float" then return ("%.14g"):format(v) end
  return type(v) == "string" and v or json.encode(as_json(v))
end

------------------------------------------------------------ parts

local PART = {}

function PART.parameters(shown)
  local rows, members, width, value_width = parameter_rows(shown), {}, 4, 5
  for i, row in ipairs(rows) do
    local is_chain = row[1] == "samplers"
    local data = is_chain and samplers_data(row[2]) or as_json(row[2])
    members[i] = { row[1], json.object { { "value", data }, { "origin", row[3] } } }
    row[2] = (is_chain and sampler.text or value_text)(row[2]):gsub("%c", " ")
    width = math.max(width, #row[1])
    if #row[2] <= MAX_COLUMN then value_width = math.max(value_width, #row[2]) end
  end
  local lines = {}
  table.insert(rows, 1, { "name", "value", "origin" })
  for i, row in ipairs(rows) do
    lines[i] = row[1] .. (" "):rep(width - #row[1] + 2) .. row[2]
      .. (" "):rep(math.max(0, value_width - #row[2]) + 2) .. row[3] .. "\n"
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
  local is_default = type(template) == "table" and template.is_default
  if is_default then template = prompt.choose(template, info_of(shown)) end
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
    local is_given = row[1] ~= "samplers" or shown.assistant.parameters.samplers
    if is_given and row[2] ~= ollama[row[1]] then out[row[1]] = row[2] end
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

function PART.lua(shown)
  local from = shown.assistant.from
  if type(from) == "string" then
    local there = host.look(engine.find(from))
    from = there and there.path or from
  else
    from = engine.wrapped[from] and engine.wrapped[from]:info().path
  end
  return lua_text.text(shown.assistant, from)
end

function PART.license(shown)
  local list = shown.result and shown.result.license or {}
  if #list == 0 then shown.notes[#shown.notes + 1] = "no license is told" end
  return table.concat(list, "\n")
end

-- The first line of a text, shortened.
local function brief(text)
  local line = text:match("^%s*([^\r\n]*)") or ""
  local cut = utf8.offset(line, 61)
  if cut and cut <= #line then line = line:sub(1, cut - 1) .. "..." end
  return line
end

-- The other assistants and parts it is made of.
local function built_on(shown)
  local words = {}
  for _, file in ipairs(shown.line.files) do words[#words + 1] = file.path end
  return table.concat(words, ", ")
end

local function hook_words(chain)
  local words = {}
  for _, hooks in ipairs(chain or {}) do
    for _, name in ipairs(assistants.hooks) do
      if hooks[name] then words[#words + 1] = ("%s (%s)"):format(name, hooks.source) end
    end
  end
  return table.concat(words, ", ")
end

local function template_words(template)
  if not template then return "the model's own" end
  if type(template) == "table" and template.is_default then
    return "the model's own, else " .. template.go
  end
  if type(template) == "table" then return ("Go text/template, %d bytes"):format(#template.go) end
  return ("Jinja, %d bytes"):format(#template)
end

local function given_parameters(shown)
  local words, given = {}, shown.assistant.parameters
  local origins = shown.result and shown.result.origins or {}
  for _, name in ipairs(check.keys(given)) do
    local is_own = shown.line.origins[name] ~= nil and not IS_MODELFILE[shown.kind]
    if is_own or origins[name] ~= "default of Modelfiles" then
      local text = name == "samplers" and sampler.text or value_text
      words[#words + 1] = name .. " " .. text(given[name])
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
    { "from", from }, { "built on", built_on(shown) }, { "system", a.system and brief(a.system) },
    { "template", template_words(a.template) }, { "format", format },
    { "parameters", given_parameters(shown) },
    { "messages", #a.messages > 0 and tostring(#a.messages) },
    { "tools", table.concat(tools, ", ") }, { "hooks", hook_words(a.chain) },
    { "adapters", table.concat(a.adapters or {}, ", ") },
    { "draft", table.concat(a.draft or {}, ", ") }, { "requires", result.requires },
    { "license", result.license[1] and brief(result.license[1]) },
  }
  local lines, members = {}, {}
  for i = 1, 16 do
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
  local whole, base, line = source.resolve(assistant, { is_read = more.instructions ~= nil })
  if not whole then error({ text = tostring(base) }, 0) end
  local result = base or more.instructions and more or nil
  local notes = {}
  for _, list in ipairs { result and result.warnings or {}, result and result.problems or {} } do
    table.move(list, 1, #list, #notes + 1, notes)
  end
  return { target = arguments.target, kind = arguments.kind, assistant = whole, result = result,
    line = line, own = not IS_MODELFILE[arguments.kind] and assistant.parameters or nil,
    notes = notes }
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

---One part of the target, for the conversation.
---@param name string
---@return string? text
---@return string[]|string notes   warnings; or what is wrong
function M.part(name)
  local arguments = { target = host.arguments.target, kind = host.arguments.kind }
  local ok, text, notes = pcall(function()
    local shown = read(arguments)
    local part = PART[name](shown)
    return part, shown.notes
  end)
  if ok then return text, notes end
  return nil, type(text) == "table" and text.text or text
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
