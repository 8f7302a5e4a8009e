-- SPDX-License-Identifier: MIT
-- perigee list: the models of this machine as a table or as JSON, and with --verify whether their
-- bytes are those that their names say.
local clock = require "perigee.sys.time"
local find = require "perigee.store.find"
local folders = require "perigee.store.folder"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local loop = require "perigee.sys.loop"

local M = {}

local SIZES <const> = { { 1e12, "TB" }, { 1e9, "GB" }, { 1e6, "MB" }, { 1e3, "KB" } }
local AGES <const> = { { 31536000, "year" }, { 2592000, "month" }, { 604800, "week" },
  { 86400, "day" }, { 3600, "hour" }, { 60, "minute" }, { 1, "second" } }
local HEADS <const> = { "NAME", "ID", "SIZE", "MODIFIED", "SOURCE" }

---Bytes as people read them: 4.7 GB.
---@param bytes integer
---@return string
function M.size_text(bytes)
  for _, unit in ipairs(SIZES) do
    local n = bytes / unit[1]
    if n >= 1 then return (n < 10 and "%.1f %s" or "%.0f %s"):format(n, unit[2]) end
  end
  return bytes .. " B"
end

---How long ago a time is.
---@param seconds number
---@return string
function M.age_text(seconds)
  for _, unit in ipairs(AGES) do
    local n = seconds // unit[1]
    if n >= 1 then return ("%d %s%s ago"):format(n, unit[2], n == 1 and "" or "s") end
  end
  return "just now"
end

------------------------------------------------------------ verifying

local function digest_of(folder, path)
  local blob <close>, err = folder.handle:source(path)
  if not blob then return nil, err end
  while true do
    local done, total, is_over = blob:step()
    if not done then return nil, total end
    host.progress(done, total)
    if is_over then return blob:digest() end
    loop.sleep(0)
  end
end

-- What is wrong with a file that has to have a digest, or nil.
local function damage(folder, path, expected)
  local digest, err = digest_of(folder, path)
  if not digest then return tostring(err) end
  if digest == expected:lower() then return nil end
  return ("%s/%s: found the SHA-256 %s, expected %s"):format(folder.place.path, path, digest,
    expected)
end

-- Each blob once: seen holds what was found.
local function check_blob(folder, path, digest, seen)
  local key = folder.place.path .. "/" .. path
  if seen[key] == nil then seen[key] = damage(folder, path, digest) or false end
  return seen[key] or nil
end

local function check_layer(folder, entry, layer, index, seen)
  local path, err = folder:blob(entry, layer, index)
  if not path then return tostring(err) end
  return check_blob(folder, folders.blob(layer.digest), layer.digest, seen)
end

-- "ok", "damaged" or "unknown", and what is wrong.
local function verify(entry, seen)
  local folder <close>, err = folders.open(entry.place)
  if not folder then return "damaged", { tostring(err) } end
  local wrong = {}
  if entry.manifest then
    wrong[1] = check_layer(folder, entry, entry.manifest.config, nil, seen)
    for i, layer in ipairs(entry.manifest.layers) do
      wrong[#wrong + 1] = check_layer(folder, entry, layer, i, seen)
    end
  elseif entry.id == "" then
    return "unknown", {}
  else
    wrong[1] = check_blob(folder, entry.path, entry.id, seen)
  end
  return wrong[1] and "damaged" or "ok", wrong
end

local function verify_all(entries, problems)
  local seen, told = {}, {}
  for _, entry in ipairs(entries) do
    local wrong
    entry.state, wrong = verify(entry, seen)
    for _, text in ipairs(wrong) do
      if not told[text] then problems[#problems + 1] = text end
      told[text] = true
    end
  end
end

------------------------------------------------------------ printing

local function row_of(entry, now)
  local source = entry.place.kind == "perigee" and "perigee"
    or (entry.place.kind == "hub" and "hugging face " or "ollama ") .. entry.place.shown
  return { entry.name, entry.id == "" and "-" or entry.id:sub(1, 12), M.size_text(entry.size),
    M.age_text(now - entry.mtime), source, entry.state }
end

local function table_text(entries)
  local rows, width, now = { { table.unpack(HEADS) } }, {}, clock.now()
  if entries[1] and entries[1].state then rows[1][6] = "STATE" end
  for _, entry in ipairs(entries) do rows[#rows + 1] = row_of(entry, now) end
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do width[i] = math.max(width[i] or 0, #cell) end
  end
  local lines = {}
  for n, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i == #row and cell or cell .. (" "):rep(width[i] - #cell)
    end
    lines[n] = table.concat(cells, "    ") .. "\n"
  end
  return table.concat(lines)
end

local function document(entries, problems)
  local list = {}
  for i, entry in ipairs(entries) do
    local members = { { "name", entry.name }, { "digest", entry.id }, { "size", entry.size },
      { "modified_at", clock.date("!%Y-%m-%dT%H:%M:%SZ", entry.mtime) },
      { "source", entry.place.kind }, { "store", entry.place.path }, { "file", entry.file } }
    if entry.state then members[#members + 1] = { "state", entry.state } end
    list[i] = json.object(members)
  end
  return json.object { { "models", json.array(list) }, { "problems", json.array(problems) } }
end

-- Newest first, as Ollama has it; of the same age by name.
local function sort(entries)
  table.sort(entries, function(a, b)
    if a.mtime ~= b.mtime then return a.mtime > b.mtime end
    return a.name < b.name
  end)
end

local function chosen(entries, prefix)
  if not prefix then return entries end
  local out = {}
  for _, entry in ipairs(entries) do
    if entry.name:sub(1, #prefix):lower() == prefix:lower() then out[#out + 1] = entry end
  end
  return out
end

---The command.
---@param arguments table   as store.lua has them
---@return integer   exit status
function M.main(arguments)
  local entries, problems = find.list()
  local n_unread = #problems
  entries = chosen(entries, arguments.words[1])
  sort(entries)
  if arguments.verify then verify_all(entries, problems) end
  if arguments.json then
    host.write(1, assert(json.encode(document(entries, problems), { indent = 2 })) .. "\n")
  else
    host.write(1, table_text(entries))
  end
  for i, text in ipairs(problems) do
    if not arguments.quiet or i > n_unread then
      host.write(2, ("perigee: %s%s\n"):format(arguments.verify and "" or "warning: ", text))
    end
  end
  return arguments.verify and #problems > 0 and 1 or 0
end

return M
