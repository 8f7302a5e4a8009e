-- SPDX-License-Identifier: MIT
-- How two assistants become one.  The second lies over the first:
--   parameters, budget      key by key; the second's value holds
--   capabilities            both ask: the lists are put together
--   tools                   one of the same name takes the other's place, the others are added
--   messages                the second's, where it has any
--   hooks                   both run, the first's first (hooks.lua); with(): only the second's
--   from                    the first's
--   every other key         the second's, where it has one
-- Parts that `with` names become one layer with the assistant that names them: their system texts
-- are added behind its own, their messages and tools to its lists.  What two parts say differently
-- is an error that names both, unless the assistant itself says it: then that holds.
local check = require "perigee.check"
local json = require "perigee.sys.json"

local M = {}

local HOOKS <const> = { "route", "on_request", "on_token", "on_message", "on_tool_call" }
local MERGED <const> = { parameters = true, budget = true }

local function merge(base, changes)
  local out = check.shallow(base)
  for key, v in next, changes do out[key] = v end
  return out
end

local function merge_tools(base, changes)
  local out, at = {}, {}
  for i, one in ipairs(base) do
    out[i], at[one.name] = one, i
  end
  for _, one in ipairs(changes) do
    out[at[one.name] or #out + 1] = one
  end
  return out
end

local function joined(base, more)
  local out, has = {}, {}
  for _, list in ipairs { base, more } do
    for _, v in ipairs(list) do
      if not has[v] then out[#out + 1] = v end
      has[v] = true
    end
  end
  return out
end

-- { fs = { read = {...} }, net = {...}, time = true }
local function merge_capabilities(base, more)
  local out = check.shallow(base)
  for key, v in next, more do
    local old = out[key]
    if type(old) ~= "table" or type(v) ~= "table" then
      out[key] = v
    elseif key == "fs" then
      out.fs = merge_capabilities(old, v)
    else
      out[key] = joined(old, v)
    end
  end
  return out
end

---The hooks of an assistant or a part as a list of one, or of none.
---@param t table
---@param source string   what error texts call it
---@return table[]
function M.hooks_of(t, source)
  local out = {}
  for _, name in ipairs(HOOKS) do out[name] = t[name] end
  if next(out) == nil then return {} end
  out.source = source
  return { out }
end

local function concat(a, b)
  local out = table.move(a, 1, #a, 1, {})
  return table.move(b, 1, #b, #out + 1, out)
end

---Lay an assistant over another; both are checked.
---@param base perigee.assistant
---@param own perigee.assistant
---@return perigee.assistant
function M.lay(base, own)
  local out = check.shallow(base)
  for key, v in next, own do
    if MERGED[key] then
      out[key] = merge(base[key] or {}, v)
    elseif key == "capabilities" then
      out.capabilities = merge_capabilities(base.capabilities or {}, v)
    elseif key == "tools" then
      out.tools = merge_tools(base.tools or {}, v)
    elseif key == "chain" then
      out.chain = concat(base.chain or {}, v)
    elseif key ~= "from" and not (key == "messages" and #v == 0) then
      out[key] = v
    end
  end
  return out
end

local function is_same(a, b)
  if a == b then return true end
  local sorted <const> = { sort = true }
  local x, y = check.copy(a, ""), check.copy(b, "")
  return x ~= nil and y ~= nil and json.encode(x, sorted) == json.encode(y, sorted)
end

-- Put the members of each part's table `key` together; own: those of the assistant itself.
local function members(key, own, parts)
  local out, from = check.shallow(own), {}
  for _, part in ipairs(parts) do
    for _, name in ipairs(check.keys(part[key])) do
      local v = part[key][name]
      if own[name] == nil then
        if from[name] and not is_same(out[name], v) then
          local line = "%s.%s is %s in %s and %s in %s; set it in the assistant, or keep one"
          return nil, line:format(key, name, check.describe(out[name]), from[name],
            check.describe(v), part.source)
        end
        out[name], from[name] = v, part.source
      end
    end
  end
  return out
end

local function tools_of(own, parts)
  local out, from = table.move(own, 1, #own, 1, {}), {}
  for _, one in ipairs(own) do from[one.name] = true end
  for _, part in ipairs(parts) do
    for _, one in ipairs(part.tools) do
      local other = from[one.name]
      if type(other) == "string" then
        return nil, ("both %s and %s have a tool %s; keep one, or rename it"):format(other,
          part.source, one.name)
      end
      if not other then out[#out + 1] = one end
      from[one.name] = other or part.source
    end
  end
  return out
end

---An assistant and its parts as one layer.
---@param own perigee.assistant
---@param parts table[]     checked, each with its source
---@param source string     of the assistant itself
---@return perigee.assistant? layer   without `with`; its hooks are in chain
---@return string? text
function M.assemble(own, parts, source)
  local out = check.shallow(own)
  local text
  out.with, out.chain = nil, {}
  for _, name in ipairs(HOOKS) do out[name] = nil end
  for _, key in ipairs { "parameters", "budget" } do
    out[key], text = members(key, own[key], parts)
    if text then return nil, text end
  end
  out.tools, text = tools_of(own.tools, parts)
  if text then return nil, text end
  local added = {}
  for _, part in ipairs(parts) do
    out.capabilities = merge_capabilities(out.capabilities, part.capabilities)
    out.messages = concat(out.messages, part.messages)
    added[#added + 1] = part.system
    out.chain = concat(out.chain, M.hooks_of(part, part.source))
  end
  out.chain = concat(out.chain, M.hooks_of(own, source))
  out.added = #added > 0 and table.concat(added, "\n\n") or nil
  return out
end

---Add the parts' system texts behind the assistant's own or inherited one.
---@param assistant perigee.assistant
---@return perigee.assistant
function M.settle(assistant)
  local added = assistant.added
  if not added then return assistant end
  local out = check.shallow(assistant)
  local system = out.system
  out.system = system and system ~= "" and system .. "\n\n" .. added or added
  out.added = nil
  return out
end

return M
