-- SPDX-License-Identifier: MIT
local Point = {}
Point.__index = Point
function Point.new(x, y) return setmetatable({ x = x, y = y }, Point) end
function Point:__add(o) return Point.new(self.x + o.x, self.y + o.y) end
Point.__add = Point.__add
function Point.__eq(a, b) return a.x == b.x and a.y == b.y end
function Point.__lt(a, b) return a.x < b.x end
function Point.__le(a, b) return a.x <= b.x end
function Point.__tostring(p) return "(" .. p.x .. ", " .. p.y .. ")" end
function Point.__len() return 2 end
function Point.__call(p, k) return p[k] end
function Point.__unm(p) return Point.new(-p.x, -p.y) end
function Point.__concat(a, b) return tostring(a) .. tostring(b) end
local a, b = Point.new(1, 2), Point.new(3, 4)
print(tostring(a + b), a == Point.new(1, 2), a < b, a <= b, #a, a("x"), tostring(-a), a .. b, a .. "!")
print(getmetatable(a) == Point)
local Sub = setmetatable({}, { __index = Point, __call = function(class, ...) return setmetatable(Point.new(...), class) end })
Sub.__index = Sub
Sub.__tostring = function(p) return "sub " .. Point.__tostring(p) end
print(tostring(Sub(5, 6)), Sub(1, 1).new == Point.new)
local counted = setmetatable({}, { __pairs = function(t) return function(_, k) if (k or 0) < 3 then return (k or 0) + 1, "v" end end, t, nil end })
for k, v in pairs(counted) do print(k, v) end
local weak = setmetatable({}, { __mode = "k" })
weak[{}] = 1
print(type(next(weak)), rawget(setmetatable({}, { __index = { x = 1 } }), "x"))
print(rawequal(a, b), rawlen({ 1, 2 }), rawset({}, "k", "v").k)
local default = setmetatable({}, { __index = function(t, k) local v = k .. "!"; rawset(t, k, v); return v end })
print(default.x, rawget(default, "x"))
print(pcall(function() return a.x.y.z end))
