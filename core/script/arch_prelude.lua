-- SPDX-License-Identifier: MIT
-- What an architecture spec may use, and how a parent is merged.  Helpers build expression nodes;
-- lua_arch.c resolves them per layer against the model file.  Run once per state with the node
-- metatable as its argument; returns the spec's globals and two functions.
local NODE <const> = ...
local DROP <const> = setmetatable({ op = "drop" }, NODE)

local function node(op, ...)
  local n = table.pack(...)
  n.op = op
  return setmetatable(n, NODE)
end

local env = { DROP = DROP }

-- a on every n-th layer (n-1, 2n-1, ...), b elsewhere.
function env.every(n, a, b) return node("every", n, a, b) end
-- a on the first n layers, b after; n is a number or a parameter.
function env.first(n, a, b) return node("first", n, a, b) end
-- A chooser p(if_set, if_clear) by a boolean array or an integer period of the file, else period n:
-- the last of each period is clear.
function env.pattern(key, n)
  return function(a, b) return node("pattern", key, n, a, b) end
end
-- a on layers that hold tensor blk.N.stem.weight, b elsewhere.
function env.has(stem, a, b) return node("has", stem, a, b) end
-- Once per model by the value of a key.
function env.pick(key, map, otherwise) return node("pick", key, map, otherwise) end
function env.rsqrt(x) return node("rsqrt", x) end
function env.sqrt(x) return node("sqrt", x) end
function env.ratio(x, y) return node("ratio", x, y) end

setmetatable(env, {
  __index = function(_, k) error("unknown name \"" .. tostring(k) .. "\"", 2) end,
  __newindex = function(_, k) error("a spec sets no globals: \"" .. tostring(k) .. "\"", 2) end,
})

local function is_node(x) return type(x) == "table" and getmetatable(x) == NODE end

-- Maps merge key by key; lists, nodes and plain values replace; DROP removes.
local function merge(base, over)
  if is_node(over) or type(over) ~= "table" or over[1] ~= nil then return over end
  if is_node(base) or type(base) ~= "table" or base[1] ~= nil then base = {} end
  local out = {}
  for k, v in pairs(base) do out[k] = v end
  for k, v in pairs(over) do
    if rawequal(v, DROP) then out[k] = nil else out[k] = merge(out[k], v) end
  end
  return out
end

local function show(x, indent)
  if type(x) == "string" then return string.format("%q", x) end
  if type(x) ~= "table" then return tostring(x) end
  if is_node(x) then
    local args = {}
    for i = 1, x.n or 0 do args[i] = show(x[i], indent) end
    return x.op .. "(" .. table.concat(args, ", ") .. ")"
  end
  local keys, parts, deeper = {}, {}, indent .. "  "
  for k in pairs(x) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    return a < b
  end)
  for i, k in ipairs(keys) do
    local name = type(k) == "number" and (x[1] ~= nil and "" or "[" .. k .. "] = ") or k .. " = "
    parts[i] = deeper .. name .. show(x[k], deeper)
  end
  if #parts == 0 then return "{}" end
  return "{\n" .. table.concat(parts, ",\n") .. "\n" .. indent .. "}"
end

return env, merge, show
