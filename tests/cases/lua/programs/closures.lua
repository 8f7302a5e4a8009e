-- SPDX-License-Identifier: MIT
local function counter()
  local n = 0
  return function(step) n = n + (step or 1) return n end
end
local a, b = counter(), counter()
print(a(), a(5), b(), a())
local fns = {}
for i = 1, 3 do fns[i] = function() i = i * 2 return i end end
print(fns[1](), fns[1](), fns[2](), fns[3]())
local function curry(f, ...)
  local args = table.pack(...)
  return function(...)
    local all = { table.unpack(args, 1, args.n) }
    for _, v in ipairs({ ... }) do all[#all + 1] = v end
    return f(table.unpack(all))
  end
end
print(curry(math.max, 3, 9)(4), curry(string.format, "%s-%s")("x", "y"))
local memo = setmetatable({}, { __index = function(t, n) local v = n < 2 and n or t[n - 1] + t[n - 2] rawset(t, n, v) return v end })
print(memo[60])
local env = { print = print }
local chunk = load("y = 5; print(y)", "c", "t", env)
chunk()
print(env.y)
print((function(...) return select("#", ...) end)(nil, nil, 1), (function(a, ...) local b = ... return a, b end)(1, 2, 3))
print(_VERSION, _G._G == _G, _ENV == _G)
