-- SPDX-License-Identifier: MIT
-- Tools: what a model may call.  A tool is a table { name, description, parameters, run };
-- checking gives a copy whose parameters are a JSON Schema, and which passes the check again.
-- Where a tool is wrong the text says what to write instead.
local check = require "perigee.check"
local json = require "perigee.sys.json"
local schema = require "perigee.schema"

local M = {}

---A tool: what a model may call.
---@class perigee.tool
---@field name string           letters, digits, _ and -, at most 64
---@field description? string   one or two sentences for the model
---@field parameters? table     { path = "string", line = "int?" } or a JSON Schema
---@field run fun(args: table, ctx: perigee.tool.context): any, string?   text or a table | nil, err
---@field strict? boolean       arguments that the schema does not name are wrong; true unless given
---                             where parameters are in the short form
---@field parallel? boolean     may run beside other calls of the same turn
---@field needs_approval? boolean|fun(args: table): boolean   ask before it runs

---What a tool's run knows besides its arguments.
---@class perigee.tool.context
---@field id string     of this call
---@field name string   of the tool
---@field call integer  how manieth call of this answer it is

local function read_name(v, path)
  if #v > 64 or not v:find("^[%w_-]+$") then
    return nil, check.wrong(path, v, "1 to 64 of letters, digits, _ and -")
  end
  return v
end

local function read_approval(v, path)
  if type(v) == "boolean" or type(v) == "function" then return v end
  return nil, check.wrong(path, v, "true, false, or a function of the arguments")
end

local FIELDS <const> = {
  name = { kind = "string", check = read_name },
  description = { kind = "string" },
  parameters = { kind = "table", expected = 'a table, { path = "string" }, or a JSON Schema' },
  run = { kind = "function", expected = "function(args) ... return text end" },
  strict = { kind = "boolean" },
  parallel = { kind = "boolean" },
  needs_approval = { check = read_approval },
}
local ALIASES <const> = { input_schema = "parameters", schema = "parameters", func = "run",
  handler = "run", inputSchema = "parameters", fn = "run" }

local function missing(path, key, example)
  return nil, ("%s has no %s; add %s"):format(path, key, example)
end

---Check a tool's table.
---@param t any
---@param path string   key path for texts
---@return perigee.tool? tool   a copy whose parameters are a JSON Schema
---@return string? text
function M.check(t, path)
  if type(t) == "function" then
    return nil, check.wrong(path, t, "{ name = ..., description = ..., run = that function }")
  end
  local tool, text = check.table(t, FIELDS, path, ALIASES)
  if text then return nil, text end
  if not tool.name then return missing(path, "name", 'name = "read_file"') end
  local where = ("%s (%s)"):format(path, tool.name)
  if not tool.run then return missing(where, "run", "run = function(args) return text end") end
  local parameters, wrong, is_short = schema.arguments(tool.parameters, where .. ".parameters")
  if wrong then return nil, wrong end
  tool.parameters = parameters
  if tool.strict == nil then tool.strict = is_short end
  return tool
end

---Check a list of tools; names must differ.
---@param list any
---@param path string
---@return perigee.tool[]?
---@return string? text
function M.check_list(list, path)
  local by_name = {}
  return check.list(list, path, function(v, where)
    local tool, text = M.check(v, where)
    if not tool then return nil, text end
    local other = by_name[tool.name]
    if other then
      return nil, ("%s: the name %q is that of %s too"):format(where, tool.name, other)
    end
    by_name[tool.name] = where
    return tool
  end)
end

---The tools as function objects of the OpenAI API, in the order of the list.
---@param tools perigee.tool[]
---@return table   JSON array
function M.definitions(tools)
  local list = {}
  for i, tool in ipairs(tools) do
    local f = { { "name", tool.name } }
    if tool.description then f[#f + 1] = { "description", tool.description } end
    f[#f + 1] = { "parameters", tool.parameters }
    list[i] = json.object { { "type", "function" }, { "function", json.object(f) } }
  end
  return json.array(list)
end

-- perigee.tool { ... }: a wrong definition raises at the caller's line.
return check.callable(M, function(t)
  local tool, text = M.check(t, "tool")
  if not tool then check.blame(text) end
  return tool
end)
