-- SPDX-License-Identifier: MIT
-- Names of models, [HOST/][NAMESPACE/]MODEL[:TAG], as Ollama has them: text to parts, parts to text
-- and to the path of a manifest.  Names that differ in case only are the same name.
-- Checked: tests/cases/store/names.case.
local M = {}

M.HOST, M.NAMESPACE, M.TAG = "registry.ollama.ai", "library", "latest"

---@class perigee.store.name
---@field host string
---@field namespace string
---@field model string
---@field tag string

-- Characters behind the first, which is a letter, a digit or _; and most bytes.
local RULES <const> = {
  host = { "^[%w_.:-]*$", 350, "letters, digits, _ - . :" },
  namespace = { "^[%w_-]*$", 80, "letters, digits, _ -" },
  model = { "^[%w_.-]*$", 80, "letters, digits, _ - ." },
  tag = { "^[%w_.-]*$", 80, "letters, digits, _ - ." },
}
local ORDER <const> = { "host", "namespace", "model", "tag" }

local function show(text)
  if #text > 60 then text = text:sub(1, 57) .. "..." end
  return '"' .. text:gsub("[%c\127-\255]", function(c) return ("\\x%02X"):format(c:byte()) end)
    .. '"'
end

-- What is wrong with a part, or nil.
local function wrong(kind, text)
  local rule = RULES[kind]
  if text == "" then return ("its %s is empty"):format(kind) end
  if #text > rule[2] then
    return ("its %s has %d bytes, at most %d are possible"):format(kind, #text, rule[2])
  end
  if not text:find("^[%w_]") then
    return ("its %s is %s, expected a letter, a digit or _ first"):format(kind, show(text))
  end
  if not text:find(rule[1]) then
    return ("its %s is %s, expected %s"):format(kind, show(text), rule[3])
  end
end

local function check(name, text)
  for _, kind in ipairs(ORDER) do
    local problem = wrong(kind, name[kind])
    if problem then return nil, ("the name %s: %s"):format(show(text), problem) end
  end
  return name
end

---The parts of a name; those it leaves out have their defaults.
---@param text string
---@return perigee.store.name?
---@return string? text   what is wrong with it
function M.parse(text)
  local rest = text:match("^https?://(.*)$") or text
  local before, tag = rest:match("^(.*):([^:/]*)$")
  if before then rest = before end
  local parts = {}
  for part in (rest .. "/"):gmatch("([^/]*)/") do parts[#parts + 1] = part end
  if #parts > 3 then
    return nil, ("the name %s: found %d parts between slashes, expected at most 3, "
      .. "HOST/NAMESPACE/MODEL"):format(show(text), #parts)
  end
  local n = #parts
  return check({ host = n > 2 and parts[1] or M.HOST, namespace = n > 1 and parts[n - 1]
    or M.NAMESPACE, model = parts[n], tag = tag or M.TAG }, text)
end

---The name that four folders and files make.
---@param host string
---@param namespace string
---@param model string
---@param tag string
---@return perigee.store.name?
---@return string? text
function M.of_parts(host, namespace, model, tag)
  return check({ host = host, namespace = namespace, model = model, tag = tag },
    table.concat({ host, namespace, model }, "/") .. ":" .. tag)
end

---A name as short as it can be told, always with its tag.
---@param name perigee.store.name
---@return string
function M.short(name)
  local text = name.model .. ":" .. name.tag
  local host = name.host:lower()
  if host ~= M.HOST then return ("%s/%s/%s"):format(name.host, name.namespace, text) end
  if name.namespace:lower() ~= M.NAMESPACE then return name.namespace .. "/" .. text end
  return text
end

---Where the manifest of a name lies below a store's folder.
---@param name perigee.store.name
---@return string
function M.path(name)
  return ("manifests/%s/%s/%s/%s"):format(name.host, name.namespace, name.model, name.tag)
end

---The same for all spellings of a name.
---@param name perigee.store.name
---@return string
function M.key(name)
  return M.path(name):lower()
end

---Could a word that was typed be the name of a model, and not only a path?
---@param text string
---@return boolean
function M.is_possible(text)
  if text:find("^[./~]") or text:find("%.gguf$") or text:find("%.lua$") then return false end
  return M.parse(text) ~= nil
end

return M
