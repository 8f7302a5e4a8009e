-- SPDX-License-Identifier: MIT
print(pcall(error, "x"), pcall(error, "x", 0), pcall(error), pcall(error, { 1 }) == false)
print(pcall(function() error("here") end), pcall(function() error("there", 2) end))
print(xpcall(function(a, b) return a + b end, print, 1, 2))
print(xpcall(function() error("e", 0) end, function(m) return "handled " .. m end))
print(select("#", pcall(function() return nil, nil end)), select(2, pcall(function() return 1, 2 end)))
print(pcall(pcall), pcall(xpcall), pcall(xpcall, print))
print(pcall(function() local x = nil; return x.y end), pcall(function() return 1 + {} end))
print(pcall(function() return #5 end), pcall(function() return {} < {} end), pcall(function() return "a" < 1 end))
local function tail(n) if n == 0 then return "bottom" end return tail(n - 1) end
print(tail(100000))
do
  local c <close> = setmetatable({}, { __close = function(_, e) print("closed", e) end })
  print("in the block")
end
print(pcall(function()
  local c <close> = setmetatable({}, { __close = function(_, e) print("closing", e) end })
  error("why", 0)
end))
print(load("return 1 + 1")(), load("syntax error here"), load("return ...", "n", "t")(5))
print(load("x = 1; return x", "n", "t", {})(), pcall(load, nil), load("return 1", "n", "b"))
local parts = { "return ", "4", "2" }
local i = 0
print(load(function() i = i + 1; return parts[i] end)())
print(type(print), tostring(nil), tostring(1e15), tostring(2^53), tonumber("0x10"), tonumber("z", 36), tonumber("1e"))
print(math.type(1), math.type(1.0), 7 // 2, -7 // 2, 7 % -3, 1 / 0, 3 | 4, 2^10, 10 // 0.0, math.maxinteger + 1 == math.mininteger)
goto done
print("skipped")
::done::
print(assert(1, "m"), pcall(assert, false, "m"), pcall(assert, nil), select(-1, 1, 2, 3), pcall(select, 0))
print(getmetatable({}), pcall(setmetatable, {}, 1), pcall(setmetatable, setmetatable({}, { __metatable = "no" }), {}))
print(getmetatable(setmetatable({}, { __metatable = "locked" })))
