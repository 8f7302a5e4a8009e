-- SPDX-License-Identifier: MIT
-- The chain of samplers, as an assistant or a session describes it: a list of links, run in that
-- order on the engine's thread.
--   sampler = { "penalties", { "top_k", 40 }, { policy = "entropy", low = 0.3 }, { "top_p", 0.9 } }
-- A link is a name; or a name with its value, and more of its parameters by name; or a policy: the
-- name of one that comes with Perigee, a .lua file beside the script, or its text.  Values are
-- parameters like all others, written where they work; so the chain becomes parameters, of which
-- `samplers` is the order: names, and { policy = name, text = source, settings = table }.
local check = require "perigee.check"
local engine = require "perigee.sys.engine"
local fs = require "perigee.sys.fs"
local host = require "perigee.sys.host"
local json = require "perigee.sys.json"
local loop = require "perigee.sys.loop"

local M = {}

---A sampling policy as a link of a chain: one that comes with Perigee, a file, or a text.  Its
---settings stand beside these keys.
---@class perigee.policy
---@field policy string     "entropy", "entropy.lua"; with text: what messages call it
---@field text? string      its source, in place of a file
---@field settings? table   its settings, in place of those beside

---@alias perigee.link string|table|perigee.policy

-- The parameters of a link; the first one is its value.  min_keep is one of several links.
local OF_LINK <const> = {
  penalties = { "repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty" },
  dry = { "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
    "dry_sequence_breakers" },
  top_n_sigma = { "top_n_sigma" },
  top_k = { "top_k" },
  typ_p = { "typical_p", "min_keep" },
  top_p = { "top_p", "min_keep" },
  min_p = { "min_p", "min_keep" },
  xtc = { "xtc_probability", "xtc_threshold", "min_keep" },
  temperature = { "temp", "dynatemp_range", "dynatemp_exponent" },
  infill = {},
  adaptive_p = { "adaptive_target", "adaptive_decay" },
  grammar = { "grammar", "grammar_trigger" },
}

-- Policies that come with Perigee: scripts/perigee/policy.
M.policies = { "contrastive", "entropy", "watermark" }

------------------------------------------------------------ policies

-- A relative name beside the file that describes the chain (`folder` where that is known, else that
-- of the code that runs), else as the engine finds it; and whether it may be read without a grant.
local function find_file(name, folder)
  local _, placed = pcall(loop.blame, "")
  folder = folder or type(placed) == "string" and placed:match("^(.*/)[^/]*:%d+: ") or nil
  local is_inside = name:sub(1, 1) ~= "/" and not ("/" .. name .. "/"):find("/../", 1, true)
  if folder and is_inside and host.look(folder .. name) then return folder .. name, true end
  local place = engine.find(name)
  return place, place ~= name and is_inside
end

-- The text of a policy by its name, and what messages call it.
local function find_policy(name, path, folder)
  if name:find("^[%w_]+$") then
    local text = engine.policy(name)
    if text then return text, "perigee/policy/" .. name .. ".lua" end
    local near = check.nearest(name, M.policies)
    return nil, ("%s: no policy is called %s; %s"):format(path, name,
      near and "did you mean " .. near .. "?" or "there are " .. table.concat(M.policies, ", ")
        .. ", and files whose names end in .lua")
  end
  local place, is_beside = find_file(name, folder)
  local text, err = (is_beside and host.read_file or fs.read)(place)
  if not text then return nil, path .. ": " .. tostring(err) end
  return text, name
end

local function settings_of(v, path)
  local settings = {}
  for key, value in next, v do
    if type(key) ~= "string" then
      return nil, check.wrong(check.join(path, key), key, "names of settings as keys")
    end
    if key ~= "policy" and key ~= "text" and key ~= "settings" then settings[key] = value end
  end
  if v.settings ~= nil then
    if type(v.settings) ~= "table" then
      return nil, check.wrong(path .. ".settings", v.settings, "a table")
    end
    local key = next(settings)
    if key then
      return nil, ("%s: setting %s stands beside a table of settings; keep one form")
        :format(path, key)
    end
    settings = check.shallow(v.settings)
  end
  return settings
end

-- { policy =, text =, settings = } of any of the forms; loaded once here, so that what is wrong
-- with it is told where it is written down.
local function read_policy(v, path, folder)
  if type(v.policy) == "function" then
    return nil, path .. ".policy: found a function; a policy runs on another thread, so it is a "
      .. 'file of its own ({ policy = "name.lua" }) or text ({ policy = "name", text = [[...]] })'
  end
  if type(v.policy) ~= "string" or v.policy == "" then
    return nil, check.wrong(path .. ".policy", v.policy, "the name of a policy or of its file")
  end
  if v.text ~= nil and type(v.text) ~= "string" then
    return nil, check.wrong(path .. ".text", v.text, "the policy's source")
  end
  local settings, wrong = settings_of(v, path)
  if not settings then return nil, wrong end
  local text, name = v.text, v.policy
  if not text then
    text, name = find_policy(v.policy, path, folder)
    if not text then return nil, name end
  end
  local out = { policy = name, text = text, settings = settings }
  if v.text == nil or v.settings == nil then
    local ok, err = engine.check_policy(out)
    if not ok then return nil, path .. ": " .. tostring(err) end
  end
  return out
end

------------------------------------------------------------ links

local function canonical(name, path)
  local link = engine.link(name)
  if link then return link end
  local names = engine.links()
  local near = check.nearest(name, names)
  return nil, ("%s: no sampler is called %s; %s"):format(path, name, near
    and "did you mean " .. near .. "?" or "there are " .. table.concat(names, ", "))
end

local function owns(link, name)
  for _, one in ipairs(OF_LINK[link]) do
    if one == name then return true end
  end
  return false
end

-- The parameters that a link with values sets.
local function link_values(v, link, path)
  local parameters = require "perigee.parameters"
  local values = {}
  for key, value in next, v do
    local name = OF_LINK[link][1]
    if key ~= 1 and key ~= 2 then
      name = parameters.aliases[key] or key
      if not owns(link, name) then
        local near = type(key) == "string" and check.nearest(key, OF_LINK[link])
        return nil, ("%s is no parameter of %s; %s"):format(check.join(path, key), link,
          near and "did you mean " .. near .. "?"
            or "it has " .. (next(OF_LINK[link]) and table.concat(OF_LINK[link], ", ") or "none"))
      end
    elseif key == 2 and not name then
      return nil, check.wrong(path .. "[2]", value, "nothing: " .. link .. " has no value")
    end
    if key ~= 1 then
      if values[name] ~= nil then return nil, path .. ": " .. name .. " is given twice" end
      values[name] = value
    end
  end
  local out, text = parameters.check(values, path)
  if not out then return nil, text end
  return out
end

-- One link: what stands for it in the order, and the parameters it sets.
local function read_link(v, path, folder)
  if type(v) == "string" then return canonical(v, path) end
  if type(v) ~= "table" then
    return nil, check.wrong(path, v, 'a name, { name, value } or { policy = "name" }')
  end
  if rawget(v, "policy") ~= nil then return read_policy(v, path, folder) end
  if type(rawget(v, 1)) ~= "string" then
    return nil, check.wrong(path .. "[1]", rawget(v, 1), "the name of a sampler")
  end
  local link, unknown = canonical(v[1], path)
  if not link then return nil, unknown end
  local values, text = link_values(v, link, path)
  if not values then return nil, text end
  return link, values
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  return table.concat(a, "\0") == table.concat(b, "\0")
end

---Read a chain: the order, and the values in it.
---@param list perigee.link[]
---@param path string
---@param folder? string   of the file it stands in, with its slash
---@return (string|perigee.policy)[]? samplers
---@return perigee.parameters|string values   or what is wrong
function M.read(list, path, folder)
  local values, origin = {}, {}
  local samplers, wrong = check.list(list, path, function(v, where)
    local link, set = read_link(v, where, folder)
    if not link then return nil, set end
    for name, value in next, type(link) == "string" and set or {} do
      if values[name] ~= nil and not same(values[name], value) then
        local twice = "%s: %s is %s here and %s in %s; a parameter has one value"
        return nil, twice:format(where, name, tostring(value), tostring(values[name]), origin[name])
      end
      values[name], origin[name] = value, origin[name] or where
    end
    return link
  end)
  if not samplers then return nil, wrong end
  return samplers, values
end

---Read an order alone: names and policies, or a text such as "top_k;temperature".
---@param v any
---@param path string
---@return (string|perigee.policy)[]?
---@return string? text
function M.read_order(v, path)
  if type(v) == "string" then
    local names = {}
    for word in v:gmatch("[^;, \t]+") do names[#names + 1] = word end
    v = names
  end
  if type(v) == "table" and #v == 1 and type(v[1]) == "string" and not engine.link(v[1]) then
    local ok, err = engine.order(v[1]) -- by letters, or none
    if not ok then return nil, path .. ": " .. tostring(err) end
    return ok
  end
  local samplers, values = M.read(v, path)
  if not samplers then return nil, values end
  local name = next(values)
  if name then
    return nil, ("%s: gives %s a value; a chain with values is called sampler"):format(path, name)
  end
  return samplers
end

---Parameters with a chain laid over them.  One value given in both is a mistake.
---@param parameters perigee.parameters   checked
---@param list perigee.link[]
---@param path string   of the chain
---@param folder? string   of the file it stands in
---@return perigee.parameters?
---@return string? text
function M.merge(parameters, list, path, folder)
  if type(list) ~= "table" then return nil, check.wrong(path, list, "a list of samplers") end
  if parameters.samplers then
    return nil, path .. ": samplers is given too; keep one of the two"
  end
  local samplers, values = M.read(list, path, folder)
  if not samplers then return nil, values end
  local out = check.shallow(parameters)
  for name, value in next, values do
    if out[name] ~= nil and not same(out[name], value) then
      return nil, ("%s: %s is %s here and %s among the parameters; give it once"):format(path, name,
        tostring(value), tostring(out[name]))
    end
    out[name] = value
  end
  out.samplers = samplers
  return out
end

---Sampling parameters of a session: a chain in them becomes parameters, policies are found.
---@param params table
---@return table?
---@return string? text
function M.prepare(params)
  if type(params) ~= "table" then return params end
  local out = check.shallow(params)
  if out.format ~= nil then
    local gbnf, wrong = require("perigee.grammar").of(out.format)
    if not gbnf then return nil, wrong end
    if out.grammar ~= nil then return nil, "format: a grammar is given too; keep one of the two" end
    out.format, out.grammar = nil, gbnf
  end
  if type(out.samplers) == "table" then
    local order, text = M.read_order(out.samplers, "samplers")
    if text then return nil, text end
    out.samplers = order
  end
  if out.sampler == nil then return out end
  out.sampler = nil
  return M.merge(out, params.sampler, "sampler")
end

---An order in words: names with ';' between, policies with their settings.
---@param samplers string|(string|perigee.policy)[]
---@return string
function M.text(samplers)
  if type(samplers) == "string" then return samplers end
  local words = {}
  for i, link in ipairs(samplers) do
    words[i] = link
    if type(link) ~= "string" then
      local given = json.encode(check.copy(link.settings, "settings"))
      words[i] = "policy " .. link.policy .. (next(link.settings) and " " .. given or "")
    end
  end
  return #words > 0 and table.concat(words, ";") or "none"
end

---Try a chain on made-up logits, without a model: for specs of policies.
---   local tried = require("perigee.sampler").measure({ sampler = { ... } }, { vocab = 500 })
---@param params perigee.sampling   as of model:session
---@param options? { vocab?: integer, picks?: integer, seed?: integer }
---@return { ids: integer[], digest: integer, ns: number }?   the tokens chosen; a number that
---  depends on every bit of the candidates they were drawn from; what a choice took
---@return perigee.error? err
function M.measure(params, options)
  local out, text = M.prepare(params)
  if text then check.blame(text) end
  if type(options) ~= "table" and options ~= nil then
    check.blame(check.wrong("options", options, "a table"))
  end
  local all = check.shallow(options or {})
  all.digest = true
  return engine.measure(out, all)
end

return M
