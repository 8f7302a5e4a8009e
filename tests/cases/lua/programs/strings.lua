-- SPDX-License-Identifier: MIT
for w in ("one two  three"):gmatch("%a+") do print(w) end
print(("hello world"):find("o w"), ("hello"):find("l", 1, true), ("hello"):find(""), ("x"):find("", 10))
print(("key = value"):match("^(%w+)%s*=%s*(%w+)$"))
print(("  trim  "):gsub("^%s*(.-)%s*$", "%1"))
print(("abc"):gsub("%w", "%0%0"), ("abc"):gsub("", "-"), ("hello"):gsub("l", { l = "L" }))
print(("abc"):rep(3), ("abc"):rep(3, ", "), ("x"):rep(0), ("x"):rep(-1), (""):rep(5, "-"))
print(("THE (quick) fox"):find("%((%a+)%)"), ("f(a(b)c)d"):match("%b()"))
print(("THE (quick) fox"):gsub("%f[%a]%a+", string.lower))
print(("%d %5.2f %s %q"):format(3, 2.5, "x", "a\nb"))
print(("äöü"):len(), utf8.len("äöü"), #utf8.char(228, 246, 252))
for p, c in utf8.codes("aä") do print(p, c) end
print(("a,b,,c"):gsub(",", ";", 2), ("abc"):byte(1, -1), string.char(72, 105))
print(pcall(string.gsub, "x", "x", "%9"), pcall(string.gsub, "x", "(", "x"), pcall(string.rep))
print(("x y z"):gsub("%w", function(c) if c ~= "y" then return c:upper() end end))
print(string.find("abc", "b", -1), string.find("abc", "b", -2), ("a.b"):find(".", 1, true), ("a+b"):match("%+"))
local it = ("k1=v1, k2=v2"):gmatch("(%w+)=(%w+)")
print(it(), it(), it())
for k, v in ("a1b2"):gmatch("(%a)(%d)", 3) do print(k, v) end
print(("abc"):match("()b()"), ("aXb"):match("%u"), ("\0a\0"):find("\0", 2), #("a\0b"):match("a%zb"))
