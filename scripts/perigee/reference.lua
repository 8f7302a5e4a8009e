-- SPDX-License-Identifier: MIT
-- The reference behind `perigee help lua`: read from the LuaCATS comments of the stubs and of our
-- modules, which editors read as well.  An entry is a function, a class, or a field of one.
local check = require "perigee.check"
local host = require "perigee.sys.host"

local M = {}

---@class perigee.reference.entry
---@field name string       chat:send, assistant, assistant.on_request
---@field kind "function"|"class"|"field"
---@field head string       the first line
---@field text string[]     what it does
---@field rows { name: string, type: string, text: string }[]   parameters, or fields
---@field returns { type: string, text: string }[]

-- { file below the script folder, name of its module for functions M.x, title }
local SOURCES <const> = {
  { "meta/perigee.lua", "", 'require "perigee"' },
  { "perigee/assistant.lua", nil, "assistants" },
  { "perigee/hooks.lua", nil, "hooks of assistants" },
  { "perigee/parameters.lua", nil, "parameters" },
  { "perigee/sampler.lua", "sampler", 'chains of samplers: require "perigee.sampler"' },
  { "meta/policy.lua", nil, "sampling policies" },
  { "perigee/policy/backtrack.lua", nil, "text without phrases: perigee.backtrack" },
  { "perigee/tool.lua", nil, "tools" },
  { "perigee/chat.lua", nil, "chats" },
  { "perigee/answer.lua", nil, "answers and their events" },
  { "perigee/model.lua", nil, "models and sessions" },
  { "perigee/assistants.lua", "assistants", 'folders of assistants: require "perigee.assistants"' },
  { "perigee/fake.lua", nil, "scripted models, for specs" },
  { "perigee/check.lua", nil, "errors" },
  { "meta/sys/loop.lua", nil, "tasks" },
  { "meta/sys/fs.lua", "fs", "files: perigee.fs" },
  { "meta/sys/json.lua", "json", "JSON: perigee.json" },
  { "meta/sys/engine.lua", nil, "facts and options of models" },
}
-- Of modules that are mostly for our own use, these only.
local ONLY <const> = {
  ["perigee/assistants.lua"] = { ["assistants.entry"] = true, ["assistants.list"] = true,
    ["assistants.find"] = true, ["assistants.folders"] = true },
  ["perigee/hooks.lua"] = { request = true, call = true, context = true, ["context:warn"] = true,
    ["context:fork"] = true },
  ["perigee/sampler.lua"] = { policy = true, ["sampler.measure"] = true },
  ["perigee/policy/backtrack.lua"] = { ["backtrack.options"] = true, ["backtrack.event"] = true },
  ["perigee/fake.lua"] = { ["fake.options"] = true },
  ["perigee/check.lua"] = { error = true },
  ["meta/sys/engine.lua"] = { ["sys.engine.info"] = true, sampling = true,
    ["generate.options"] = true, ["sys.engine.event"] = true, segment = true },
  ["meta/sys/loop.lua"] = { task = true, ["task:wait"] = true, ["task:cancel"] = true,
    ["task:status"] = true },
  ["meta/sys/json.lua"] = { ["json.decode"] = true, ["json.encode"] = true, ["json.array"] = true,
    ["json.object"] = true, ["json.number"] = true, ["json.keys"] = true, ["json.kind"] = true,
    ["json.options"] = true },
}

local function short(name)
  return (name:gsub("^perigee%.", ""):gsub("%.module$", ""))
end

-- "name? type   text", two spaces between type and text.
local function split(rest)
  local name, more = rest:match("^(%S+)%s+(.*)$")
  if not name then return rest, "", "" end
  local kind, text = more:match("^(.-)%s%s+(.*)$")
  return name, kind or more, text or ""
end

local function new_block()
  return { text = {}, rows = {}, returns = {} }
end

-- One line of a block of comments that begin with "---".
local function add_line(block, line)
  local tag, rest = line:match("^@(%w+)%s*(.*)$")
  if not tag then
    if block.last and line:find("^%s%s") then
      local last = block.last
      last.text = (last.text .. " " .. line:gsub("^%s+", "")):gsub("^ ", "")
    else
      block.last = nil
      block.text[#block.text + 1] = line
    end
    return
  end
  block.last = nil
  if tag == "param" or tag == "field" then
    local name, kind, text = split(rest:gsub("^private%s+", "\0"))
    if name:sub(1, 1) == "\0" then return end
    block.last = { name = name, type = kind, text = text }
    table.insert(block.rows, block.last)
  elseif tag == "return" then
    local kind, text = rest:match("^(.-)%s%s+(.*)$")
    block.last = { type = kind or rest, text = text or "" }
    table.insert(block.returns, block.last)
  elseif tag == "class" then
    block.class = rest:match("^([%w_.]+)")
  elseif tag == "overload" then
    block.overload = rest
  elseif tag == "async" then
    block.waits = true
  end
end

local function add(out, entry)
  out[#out + 1] = entry
end

-- The head of a table that can be called; its parameters become rows.
local function read_overload(block, name)
  local arguments, result = block.overload:match("^fun(%b())%s*:?%s*(.*)$")
  local names = {}
  for one in arguments:sub(2, -2):gmatch("[^,]+") do
    local key, kind = one:match("^%s*([%w_?]+):%s*(.-)%s*$")
    names[#names + 1] = key:gsub("%?$", "")
    block.rows[#block.rows + 1] = { name = key, type = kind, text = "" }
  end
  if result ~= "" then block.returns[1] = { type = result, text = "" } end
  return ("perigee.%s(%s)"):format(name, table.concat(names, ", "))
end

-- The members of the root are entries by themselves.
local function add_root(out, block, source)
  for _, row in ipairs(block.rows) do
    local head = ("perigee.%s: %s"):format(row.name, row.type)
    add(out, { name = row.name, kind = "field", head = head, text = { row.text }, rows = {},
      returns = {}, title = source[3] })
  end
end

local function add_class(out, block, source)
  local name = short(block.class)
  if name == "perigee" then return add_root(out, block, source) end
  if source.only and not source.only[name] then return end
  if #block.rows == 0 and #block.text == 0 and not block.overload then return end
  local head = "perigee." .. name
  if block.overload then head = read_overload(block, name) end
  add(out, { name = name, kind = block.overload and "function" or "class", head = head,
    text = block.text, rows = block.rows, returns = block.returns, title = source[3] })
  if block.overload then return end
  for _, row in ipairs(block.rows) do
    local field = row.name:gsub("%?$", "")
    add(out, { name = name .. "." .. field, kind = "field", head = ("%s: %s"):format(
      name .. "." .. row.name, row.type), text = { row.text }, rows = {}, returns = {},
      title = source[3] })
  end
end

-- What a function is called by users, nil where it is not for them.
local function user_name(owner, dot, name, source, classes)
  if owner == "M" or owner == source.var then
    if not source[2] then return nil end
    return (source[2] == "" and "" or source[2] .. ".") .. name
  end
  local class = classes[owner]
  if class then return short(class) .. dot .. name end
  local sub = owner:match("^" .. (source.var or "M") .. "%.(.+)$")
  return sub and sub .. "." .. name
end

local function add_function(out, block, line, source, classes)
  local owner, dot, name, arguments = line:match("^function ([%w_.]-)([.:])([%w_]+)(%b())")
  if not owner or name:find("^__") then return end
  local full = user_name(owner, dot, name, source, classes)
  if not full or source.only and not source.only[full] then return end
  local root = full:find(":", 1, true) and "" or "perigee."
  add(out, { name = full, kind = "function", head = root .. full .. arguments, text = block.text,
    rows = block.rows, returns = block.returns, waits = block.waits, title = source[3] })
end

local function read_source(out, source, text)
  local block, classes = new_block(), {}
  source.only = ONLY[source[1]]
  source.var = source[1]:find("^meta/") and text:match("\nlocal (%w+) = {}\n") or "M"
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    local comment = line:match("^%-%-%-(.*)$")
    if comment then
      if comment:find("^@class") and block.class then
        add_class(out, block, source)
        block = new_block()
      end
      add_line(block, comment)
    else
      if block.class then
        local var = line:match("^local (%w+) = {}")
        if var then classes[var] = block.class end
        add_class(out, block, source)
      elseif line:find("^function ") then
        add_function(out, block, line, source, classes)
      end
      block = new_block()
    end
  end
end

local entries

---All entries, in the order of their files.
---@return perigee.reference.entry[]?
---@return perigee.error? err
function M.entries()
  if entries then return entries end
  local out = {}
  for _, source in ipairs(SOURCES) do
    local text, err = host.read_file((host.scripts or "") .. "/" .. source[1])
    if not text then return nil, err end
    read_source(out, check.shallow(source), text)
  end
  entries = out
  return out
end

-- chat:send, chat.send and perigee.chat.send are the same.
local function plain(name)
  return (name:gsub("^perigee%.", ""):gsub(":", "."):gsub("%(.*$", ""):lower())
end

---The entries of a name: those that have it in full, else those whose last part it is.
---@param name string
---@return perigee.reference.entry[]   none where nothing has it
---@return string? near                a name that is near
function M.find(name)
  local wanted, full, last, names = plain(name), {}, {}, {}
  for _, entry in ipairs(assert(M.entries())) do
    local own = plain(entry.name)
    local tail = own:match("([^.]+)$")
    if own == wanted then full[#full + 1] = entry end
    if tail == wanted and entry.text[1] ~= "" then last[#last + 1] = entry end
    names[#names + 1], names[#names + 2] = entry.name, tail
  end
  if #full > 0 then return full end
  if #last > 0 then return last end
  return {}, check.nearest(wanted, names)
end

return M
