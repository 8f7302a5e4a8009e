-- SPDX-License-Identifier: MIT
local t = { 5, 2, 8, 1, 9, 3 }
table.sort(t)
print(table.concat(t, " "))
table.sort(t, function(a, b) return a > b end)
print(table.concat(t, ",", 2, 4), table.concat({}), table.concat({ 1 }, "x"), table.concat({ 1, 2.5, "a" }, "-"))
local words = { "pear", "apple", "fig" }
table.sort(words)
print(table.unpack(words))
table.insert(t, 7)
table.insert(t, 1, 0)
print(#t, t[1], t[#t], table.remove(t), table.remove(t, 1), #t, table.remove({}), table.remove({}, 0))
print(table.unpack(table.move({ 1, 2, 3 }, 1, 3, 2)))
print(table.unpack(table.move({ 1, 2, 3 }, 2, 3, 1)))
print(select("#", table.unpack(table.move({ 1, 2, 3 }, 1, 3, 1, {}))))
print(pcall(table.insert, { 1 }, 5, 2), pcall(table.insert, { 1 }), pcall(table.insert, 1, 2))
print(pcall(table.sort, { 1, "x" }), pcall(table.concat, { {} }), pcall(table.concat, { 1, 2 }, ",", 1, 3))
print(pcall(table.remove, { 1, 2 }, 9), pcall(table.move, {}, 1, math.maxinteger, 2), pcall(table.sort, {}, 1))
local log = {}
local proxy = setmetatable({}, { __index = function(_, i) return i <= 3 and i * 10 or nil end,
  __newindex = function(_, i, v) log[#log + 1] = i .. "=" .. tostring(v) end, __len = function() return 3 end })
print(table.concat(proxy, " "))
table.insert(proxy, 1, "new")
print(table.concat(log, " "))
print(table.pack(1, nil, 3).n, next({}), #{ 1, 2, nil, 4 } >= 2, rawlen({ 1 }), rawequal(t, t))
