-- SPDX-License-Identifier: MIT
local function parse(line)
  local out, pos = {}, 1
  while true do
    local c = line:sub(pos, pos)
    if c == '"' then
      local text = ""
      repeat
        local s, e, t, q = line:find('^"(.-)"("?)', pos)
        assert(s, "unfinished")
        text, pos = text .. t .. q, e + (q == "" and 1 or 0)
      until q == ""
      out[#out + 1] = text
      if line:sub(pos, pos) ~= "," then break end
      pos = pos + 1
    else
      local s, e = line:find(",", pos, true)
      out[#out + 1] = line:sub(pos, (s or 0) - 1)
      if not s then break end
      pos = e + 1
    end
  end
  return out
end
for _, line in ipairs({ "a,b,c", '"x, y",z', 'q,"he said ""hi""",r', "" }) do print(table.concat(parse(line), "|")) end
local template = "Hello ${name}, you are ${age} years; ${missing}"
print((template:gsub("%${(%w+)}", { name = "Ann", age = 30 })))
print(("%41%20b"):gsub("%%(%x%x)", function(h) return string.char(tonumber(h, 16)) end))
print(("camelCaseWord"):gsub("(%l)(%u)", "%1_%2"))
print(("2024-05-06"):match("(%d+)-(%d+)-(%d+)"))
