-- SPDX-License-Identifier: MIT
-- Writing to our store.  Whoever writes holds the store's lock from before the first change to
-- after the last.  The order makes each moment a good one to be killed at:
--   1. blobs, each hashed while it is written, synced, then renamed to the name of its digest;
--   2. the manifest, synced, then renamed: from here on the model is there, with all of its blobs;
--   3. blobs that no manifest names any more are removed; of a removed model the manifest first.
-- What a killed process leaves are drafts and blobs that nobody names.  The next writer removes
-- them: with the lock in its hand it knows that they are nobody's.  Blobs are not removed while a
-- manifest cannot be read, for it may name them.
local check = require "perigee.check"
local folders = require "perigee.store.folder"
local loop = require "perigee.sys.loop"
local manifests = require "perigee.store.manifest"
local names = require "perigee.store.name"
local places = require "perigee.store.places"
local store = require "perigee.sys.store"

local M = {}

local LOCK <const>, LOCK_WAIT <const>, NOTE_AFTER <const> = "perigee.lock", 0.05, 20
local DRAFT <const> = "^%.perigee%-%d+%-%d+%.tmp$"

---@class perigee.store.watcher
---@field note fun(text: string)                         something worth saying
---@field progress fun(done: integer, total: integer)    bytes of one file

---@class perigee.store.writer: perigee.store.folder
---@field watch perigee.store.watcher
---@field private lock perigee.sys.store.lock
local Writer = {}
Writer.__index = Writer

local function take_lock(handle, watch, shown)
  local n = 0
  while true do
    local lock, err = handle:lock(LOCK)
    if lock == nil or lock then return lock, err end
    n = n + 1
    if n == NOTE_AFTER then
      watch.note("waiting for another perigee that is writing to " .. shown)
    end
    loop.sleep(LOCK_WAIT)
  end
end

---Our store, made where it is missing, with its lock taken.
---@param watch perigee.store.watcher
---@return perigee.store.writer?
---@return perigee.error? err
---@async
function M.open(watch)
  local place, text = places.own()
  if not place then return nil, check.err("invalid", text) end
  local handle, err = store.open(place.path, true)
  if not handle then return nil, err end
  local lock, unlocked = take_lock(handle, watch, place.shown)
  if not lock then return nil, unlocked end
  local self = setmetatable({ place = place, handle = handle, lock = lock, watch = watch,
    folder = folders.new(place, handle) }, Writer)
  for _, name in ipairs { "blobs", "manifests" } do
    local ok, wrong = handle:make(name)
    if not ok then
      self:close()
      return nil, wrong
    end
  end
  self:clean()
  return self
end

function Writer:close()
  self.lock:close()
  self.handle:close()
end
Writer.__close = Writer.close

---Remove the drafts of killed processes.
function Writer:clean()
  local blobs = self.handle:list("blobs")
  for _, name in ipairs(blobs and blobs.names or {}) do
    if name:find(DRAFT) then self.handle:remove("blobs/" .. name) end
  end
  self.folder:walk(function(path, kind, parts)
    if kind == "file" and parts[#parts]:find(DRAFT) then self.handle:remove(path) end
  end)
end

------------------------------------------------------------ blobs

-- Read a blob to its end; its digest.
local function finish(self, blob)
  while true do
    local done, total, is_over = blob:step()
    if not done then return nil, total end
    self.watch.progress(done, total)
    if is_over then return blob:digest() end
    loop.sleep(0)
  end
end

local function digest_of(self, blob, err)
  if not blob then return nil, err end
  local held <close> = blob
  return finish(self, held)
end

---SHA-256 of a file of the store.
---@param path string   below its folder
---@return string?
---@return perigee.error? err
---@async
function Writer:digest(path)
  return digest_of(self, self.handle:source(path))
end

-- Is there a blob of so many bytes?
local function has_size(self, size)
  local list = self.handle:list("blobs")
  for _, name in ipairs(list and list.names or {}) do
    local stat = list.kinds[name] == "file" and self.handle:stat("blobs/" .. name)
    if stat and stat.size == size then return true end
  end
  return false
end

-- Is the blob there, with the very bytes that its name says?
local function is_sound(self, digest, size)
  local stat = self.handle:stat(folders.blob(digest))
  if not stat or stat.kind ~= "file" or stat.size ~= size then return false end
  return self:digest(folders.blob(digest)) == digest
end

local function layer(kind, digest, size)
  return { kind = kind, type = manifests.media_type(kind), digest = digest, size = size }
end

-- Without writing, where the bytes are there already; nil: they are not.
local function reuse(self, kind, path)
  local source <close>, err = store.source(path)
  if not source then return nil, err end
  local size = source:size()
  if not has_size(self, size) then return nil end
  local digest, wrong = finish(self, source)
  if not digest then return nil, wrong end
  if is_sound(self, digest, size) then return layer(kind, digest, size) end
end

---A layer of the bytes of a file.
---@param kind string
---@param path string
---@param expected? string   the digest they must have
---@return perigee.store.layer?
---@return perigee.error? err
---@async
function Writer:put_file(kind, path, expected)
  local known, err = reuse(self, kind, path)
  if known or err then return known, err end
  local draft <close>, unmade = self.handle:draft("blobs", path)
  if not draft then return nil, unmade end
  local digest, wrong = finish(self, draft)
  if not digest then return nil, wrong end
  if expected and digest ~= expected:lower() then
    return nil, check.err("corrupt", ("%s: found the SHA-256 %s, expected that of its name"):format(
      path, digest))
  end
  local size = draft:size()
  local ok, unpublished = draft:publish("sha256-" .. digest)
  if not ok then return nil, unpublished end
  return layer(kind, digest, size)
end

---A layer of a text.
---@param kind string
---@param text string
---@return perigee.store.layer?
---@return perigee.error? err
---@async
function Writer:put_text(kind, text)
  local known = store.hash(text)
  if is_sound(self, known, #text) then return layer(kind, known, #text) end
  local draft <close>, err = self.handle:draft("blobs")
  if not draft then return nil, err end
  local ok, wrong = draft:write(text)
  if not ok then return nil, wrong end
  local digest = draft:digest()
  ok, wrong = draft:publish("sha256-" .. digest)
  if not ok then return nil, wrong end
  return layer(kind, digest, #text)
end

------------------------------------------------------------ models

---Make a manifest visible under a name; a model of that name is replaced.
---@param name perigee.store.name
---@param text string
---@return perigee.store.entry?
---@return perigee.error? err
function Writer:publish(name, text)
  local spelling = self.folder:spelling(name) or name
  local path = names.path(spelling)
  local parent, last = path:match("^(.*)/([^/]*)$")
  local ok, err = self.handle:make(parent)
  if not ok then return nil, err end
  local draft <close>, unmade = self.handle:draft(parent)
  if not draft then return nil, unmade end
  ok, err = draft:write(text)
  if not ok then return nil, err end
  draft:digest()
  ok, err = draft:publish(last)
  if not ok then return nil, err end
  return self.folder:entry(path, spelling)
end

---Remove a model; its blobs go with collect.
---@param entry perigee.store.entry
---@return boolean?
---@return perigee.error? err
function Writer:forget(entry)
  local path = entry.path
  local ok, err = self.handle:remove(path)
  while ok and path:find("/.*/") do -- the folders above, those that are empty now
    path = path:match("^(.*)/[^/]*$")
    ok = self.handle:remove(path)
  end
  if ok == nil then return nil, err end
  return true
end

-- Digests that manifests name; nil and a text where one cannot be read.
local function named(self)
  local out = {}
  local entries, problems = self.folder:list()
  if problems[1] then return nil, problems[1] end
  for _, entry in ipairs(entries) do
    out[entry.manifest.config.digest:lower()] = true
    for _, one in ipairs(entry.manifest.layers) do out[one.digest:lower()] = true end
  end
  return out
end

---Remove the blobs that no model has.
function Writer:collect()
  local kept, problem = named(self)
  if not kept then
    self.watch.note(problem .. "; so no blobs are removed")
    return
  end
  local list = self.handle:list("blobs")
  for _, name in ipairs(list and list.names or {}) do
    local digest = name:match("^sha256%-(%x+)$")
    if digest and #digest == 64 and not kept[digest:lower()] then
      local ok, err = self.handle:remove("blobs/" .. name)
      if ok == nil then self.watch.note(tostring(err)) end
    end
  end
end

return M
