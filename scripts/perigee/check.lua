-- SPDX-License-Identifier: MIT
-- Checking what a user's script hands in: tables are read with next and rawget only, so that a
-- metatable of the script's never runs inside our modules, and are copied, so that later changes do
-- not matter.  A text says what was found, what was expected, and under which key.  Functions here
-- do not raise: the public function that the user called does, with blame(text), which puts the
-- place of the innermost function of the script in front.
local errors = require "perigee.sys.error"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local loop = require "perigee.sys.loop"

local M = {}

---Raise a mistake of the script with the script's file:line.  Behind `return perigee.assistant
---{...}` there is no line left (a tail call): then the name of the script stands in front.
---@param text string
function M.blame(text)
  local _, placed = pcall(loop.blame, text)
  local script = host.arguments and host.arguments.target
  if placed == text and type(script) == "string" then placed = script .. ": " .. text end
  error(placed, 0)
end

local MAX_DEPTH <const> = 64
local SCALAR <const> = { string = true, number = true, boolean = true }

---What failed: nil, err is returned; err prints as its message.
---@class perigee.error
---@field code string       one word: "context", "template", "model", "budget", ...
---@field message string
---@field data? table

---Is the value a JSON array, or a plain list that is not empty?
---@param v any
---@return boolean
function M.is_array(v)
  return type(v) == "table" and json.kind(v) == "array"
end

---Is the value a JSON object, or any other table that is no list?
---@param v any
---@return boolean
function M.is_object(v)
  return type(v) == "table" and json.kind(v) == "object"
end

---Is the value a number too large for Lua, kept as its digits?
---@param v any
---@return boolean
function M.is_number(v)
  return type(v) ~= "number" and json.kind(v) == "number"
end

---An error as expected failures return it: prints as its message.
---@param code string
---@param message string
---@param data? table
---@return perigee.error
function M.err(code, message, data)
  return errors.new(code, message, { data = data })
end

---An error of any shape as one of ours; strings and foreign tables get the code given.
---@param e any
---@param code string
---@return perigee.error
function M.as_err(e, code)
  if type(e) == "table" and type(rawget(e, "message")) == "string" then
    if type(rawget(e, "code")) == "string" then return e end
    return M.err(code, rawget(e, "message"))
  end
  return M.err(code, type(e) == "string" and e or "an error that is a " .. type(e))
end

-- Edit distance in which two neighbours changing places counts once; `limit` bounds the work.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local before, last, row = {}, {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
      local here, there = a:sub(i - 1, i), b:sub(j - 1, j)
      if i > 1 and j > 1 and here == there:reverse() then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, last, row = last, row, before
  end
  return last[#b]
end

---The name nearest to a misspelt one, or nil when none is near.
---@param name string
---@param names string[]
---@return string?
function M.nearest(name, names)
  if #name > MAX_DEPTH then return nil end
  local limit = math.max(1, #name // 3)
  local best, least
  for _, other in ipairs(names) do
    local d = distance(name:lower(), other:lower(), limit)
    if d <= limit and (not least or d < least) then best, least = other, d end
  end
  return best
end

---A value in an error text: its type, and the value itself where that is short.
---@param v any
---@return string
function M.describe(v)
  local kind = type(v)
  if v == nil then return "nothing" end
  if v == json.null then return "null" end
  if kind == "string" then
    local short = #v > 40 and v:sub(1, 37) .. "..." or v
    return "the string " .. string.format("%q", short):gsub("\\\n", "\\n")
  elseif kind == "number" or kind == "boolean" then
    return "the " .. kind .. " " .. tostring(v)
  end
  return "a " .. kind
end

---The text for a wrong value.
---@param path string
---@param found any
---@param expected string
---@return string
function M.wrong(path, found, expected)
  return path .. ": found " .. M.describe(found) .. ", expected " .. expected
end

---The key path of a member: a.b, a[1], a["odd key"].
---@param path string
---@param key any
---@return string
function M.join(path, key)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") then
    return path == "" and key or path .. "." .. key
  end
  local kind = type(key)
  if kind == "string" then return path .. "[" .. string.format("%q", key) .. "]" end
  return path .. "[" .. (SCALAR[kind] and tostring(key) or "a " .. kind) .. "]"
end

---The keys of a table in an order that is always the same: as a JSON object has them, else sorted.
---@param t table
---@return string[]
function M.keys(t)
  local keys = {}
  for _, key in ipairs(json.keys(t)) do
    if type(key) == "string" then keys[#keys + 1] = key end
  end
  return keys
end

---Is the table a list: keys 1..n and no others?
---@param t table
---@return boolean is_list
---@return integer n
function M.is_list(t)
  local n = 0
  for _ in next, t do n = n + 1 end
  for i = 1, n do
    if rawget(t, i) == nil then return false, n end
  end
  return n > 0 or M.is_array(t), n
end

local copy

-- `open`: the tables we are inside of.
local function copy_list(t, n, path, open)
  local list = {}
  for i = 1, n do
    local v, text = copy(rawget(t, i), M.join(path, i), open)
    if text then return nil, text end
    list[i] = v
  end
  return json.array(list)
end

local function copy_object(t, path, open)
  for key in next, t do
    if type(key) ~= "string" then
      return nil, M.wrong(M.join(path, key), key, "names as keys, or a list without holes")
    end
  end
  local pairs_list = {}
  for i, key in ipairs(M.keys(t)) do
    local v, text = copy(rawget(t, key), M.join(path, key), open)
    if text then return nil, text end
    pairs_list[i] = { key, v }
  end
  return json.object(pairs_list)
end

function copy(v, path, open)
  local kind = type(v)
  if v == json.null or v == nil or SCALAR[kind] or M.is_number(v) then return v end
  if kind ~= "table" then
    return nil, M.wrong(path, v, "data (text, numbers, booleans, tables)")
  end
  if open[v] then return nil, path .. ": found a table that holds itself" end
  if open.n == MAX_DEPTH then
    return nil, ("%.80s...: found more than %d levels of tables"):format(path, MAX_DEPTH)
  end
  open[v], open.n = true, open.n + 1
  local is_list, n = M.is_list(v)
  local out, text
  if is_list then
    out, text = copy_list(v, n, path, open)
  else
    out, text = copy_object(v, path, open)
  end
  open[v], open.n = nil, open.n - 1
  return out, text
end

---A copy of plain data as JSON arrays and ordered objects.  An empty plain table becomes an object.
---@param v any
---@param path string
---@return any copy
---@return string? text
function M.copy(v, path)
  return copy(v, path, { n = 0 })
end

---@class perigee.check.field
---@field kind? string             type(), or "any", "integer", "list"
---@field expected? string         the words for it in texts
---@field check? fun(v: any, path: string): any, string?   the checked copy, or nil and a text

local function check_field(field, v, path)
  local kind = field.kind or "any"
  local is_right = kind == "any" or type(v) == kind
  if kind == "integer" then is_right = math.type(v) == "integer" end
  if not is_right then return nil, M.wrong(path, v, field.expected or "a " .. kind) end
  if field.check then return field.check(v, path) end
  return v
end

local function unknown_key(key, path, names, aliases)
  local all = {}
  for _, name in ipairs(names) do all[#all + 1] = name end
  for alias in next, aliases do all[#all + 1] = alias end
  table.sort(all)
  local near = type(key) == "string" and M.nearest(key, all)
  near = near and aliases[near] or near
  local text = M.join(path, key) .. " is unknown"
  if near then return text .. "; did you mean " .. near .. "?" end
  return text .. "; known are " .. table.concat(names, ", ")
end

---Check a table against the keys it may have; returns a copy.
---@param t any
---@param fields table<string, perigee.check.field>
---@param path string
---@param aliases? table<string, string>   other spellings of keys
---@return table? copy
---@return string? text
function M.table(t, fields, path, aliases)
  if type(t) ~= "table" or t == json.null then return nil, M.wrong(path, t, "a table") end
  aliases = aliases or {}
  local names, keys, out = M.keys(fields), {}, {}
  for key in next, t do
    local name = fields[key] and key or aliases[key]
    if not name then return nil, unknown_key(key, path, names, aliases) end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local name = fields[key] and key or aliases[key]
    if out[name] ~= nil then
      local where = M.join(path, key)
      return nil, where .. " is another name of " .. name .. ", which is given too; keep one"
    end
    local v, text = check_field(fields[name], rawget(t, key), M.join(path, key))
    if text then return nil, text end
    out[name] = v
  end
  return out
end

---Check a list with one function for its elements; returns a copy.
---@param t any
---@param path string
---@param check fun(v: any, path: string): any, string?
---@return table? copy
---@return string? text
function M.list(t, path, check)
  if type(t) ~= "table" or t == json.null then return nil, M.wrong(path, t, "a list") end
  local is_list, n = M.is_list(t)
  if n > 0 and not is_list then
    return nil, path .. ": found keys that are no list, expected { first, second, ... }"
  end
  local out = {}
  for i = 1, n do
    local v, text = check(rawget(t, i), M.join(path, i))
    if text then return nil, text end
    out[i] = v
  end
  return out
end

---A list of texts; one text alone is a list of one.
---@param v any
---@param path string
---@return string[]?
---@return string?
function M.strings(v, path)
  if type(v) == "string" then return { v } end
  return M.list(v, path, function(x, where)
    if type(x) ~= "string" then return nil, M.wrong(where, x, "a string") end
    return x
  end)
end

---A module that can be called: perigee.tool { ... }.  Scripts cannot change it.
---@param module table
---@param call fun(...): any   its arguments are those of the call
---@return table
function M.callable(module, call)
  return setmetatable({}, {
    __index = module,
    __call = function(_, ...) return call(...) end,
    __newindex = function(_, key)
      M.blame(("assignment to field %q of a read-only table"):format(tostring(key)))
    end,
    __pairs = function() return next, M.shallow(module), nil end,
    __metatable = false,
  })
end

---A shallow copy without metatable.
---@param t table
---@return table
function M.shallow(t)
  local out = {}
  for key, v in next, t do out[key] = v end
  return out
end

-- pcall for a question about a value: that memory ran out is no answer to it and stays an error.
---@param f function
---@return boolean ok
---@return any ...
function M.try(f, ...)
  local ok, result, more = pcall(f, ...)
  if not ok and result == "not enough memory" then error(result, 0) end
  return ok, result, more
end

return M
