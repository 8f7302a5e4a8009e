-- SPDX-License-Identifier: MIT
-- The driver behind perigee create, list, cp and rm.
-- host.arguments: { command = "create", words = { NAME }, file = path }, or
-- { command = "list", words = { [PREFIX] }, json = boolean, verify = boolean }, or
-- { command = "cp", words = { SRC, DST } }, or { command = "rm", words = { NAME, ... } };
-- and quiet = boolean.
local check = require "perigee.check"
local create = require "perigee.store.create"
local find = require "perigee.store.find"
local folders = require "perigee.store.folder"
local host = require "perigee.sys.host"
local listing = require "perigee.cli.listing"
local modelfile = require "perigee.modelfile"
local names = require "perigee.store.name"
local places = require "perigee.store.places"
local targets = require "perigee.cli.target"
local write = require "perigee.store.write"

local M = {}

local function note(arguments, text)
  if not arguments.quiet then host.write(2, "perigee: " .. text .. "\n") end
end

-- Errors leave by error(); M.main catches them.
local function must(v, err)
  if v == nil then error({ text = tostring(err) }, 0) end
  return v
end

local function open(arguments)
  return must(write.open {
    note = function(text) host.write(2, "perigee: warning: " .. text .. "\n") end,
    progress = arguments.quiet and function() end or host.progress,
  })
end

local function told(arguments, what, entry)
  note(arguments, ("%s %s: %s, id %s"):format(what, entry.name, listing.size_text(entry.size),
    entry.id:sub(1, 12)))
end

local COMMAND = {}

function COMMAND.create(arguments)
  local name = must(names.parse(arguments.words[1]))
  local result = must(modelfile.load(arguments.file, targets.reader))
  for _, text in ipairs(result.warnings) do note(arguments, "warning: " .. text) end
  if not result.models[1] and result.problems[1] then error({ text = result.problems[1] }, 0) end
  for _, text in ipairs(result.problems) do
    note(arguments, "warning: the model is stored, and cannot be used yet: " .. text)
  end
  local writer <close> = open(arguments)
  told(arguments, "created", must(create.create(writer, name, result)))
end

function COMMAND.cp(arguments)
  local from, to = arguments.words[1], must(names.parse(arguments.words[2]))
  must(find.find(from, true)) -- so that a slip of the pen makes no store
  local writer <close> = open(arguments)
  told(arguments, "copied to", must(create.copy(writer, must(find.find(from, true)), to)))
end

-- Why a name is none of our store's.
local function not_own(word)
  local entry, err = find.find(word, true)
  if not entry then return tostring(err) end
  return ("%s lies in %s, which is never written here: remove it with the program it belongs to")
    :format(entry.name, entry.place.shown)
end

-- The models of our store that are to go; nothing goes while one of them is not there.  A manifest
-- that cannot be read may go too.
local function find_own(folder, words)
  local out = {}
  for i, word in ipairs(words) do
    local name = must(names.parse(word))
    name = folder and folder:spelling(name)
    if not name then error({ text = not_own(word) }, 0) end
    out[i] = { name = names.short(name), path = names.path(name) }
  end
  return out
end

function COMMAND.rm(arguments)
  do
    local folder <close> = folders.open(must(places.own()))
    find_own(folder, arguments.words)
  end
  local writer <close> = open(arguments)
  for _, entry in ipairs(find_own(writer.folder, arguments.words)) do
    must(writer:forget(entry))
    note(arguments, "removed " .. entry.name)
  end
  writer:collect()
end

function COMMAND.list(arguments)
  return listing.main(arguments)
end

---The driver's main function.
---@param arguments table
---@return integer   exit status
function M.main(arguments)
  local ok, result = check.try(COMMAND[arguments.command], arguments)
  if ok then return result or 0 end
  if type(result) ~= "table" or not result.text then error(result, 0) end
  host.write(2, "perigee: " .. result.text .. "\n")
  return 1
end

return M
