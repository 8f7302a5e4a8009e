-- SPDX-License-Identifier: MIT
-- perigee help lua [NAME...]: the reference of what scripts can use (reference.lua).
-- host.arguments: { names = { ... } }.
local host = require "perigee.sys.host"
local reference = require "perigee.reference"

local M = {}

local WIDTH <const> = 92

-- Words of a text in lines of at most WIDTH, each behind an indent.
local function wrapped(text, indent)
  local lines, line = {}, ""
  for word in text:gmatch("%S+") do
    if line ~= "" and #indent + #line + 1 + #word > WIDTH then
      lines[#lines + 1], line = indent .. line, ""
    end
    line = line == "" and word or line .. " " .. word
  end
  if line ~= "" then lines[#lines + 1] = indent .. line end
  return lines
end

local function add(lines, more)
  table.move(more, 1, #more, #lines + 1, lines)
end

local function add_rows(lines, rows)
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("    %s: %s"):format(row.name, row.type)
    add(lines, wrapped(row.text, "        "))
  end
end

-- An entry in full.
local function whole(entry)
  local lines = { entry.head }
  add(lines, wrapped(table.concat(entry.text, " "), "    "))
  if #entry.rows > 0 then
    lines[#lines + 1] = ""
    add_rows(lines, entry.rows)
  end
  for i, result in ipairs(entry.returns) do
    if i == 1 then lines[#lines + 1] = "" end
    local kind, name = result.type:match("^(%S*[^%s,])%s+(%w+)$")
    lines[#lines + 1] = "    returns " .. (kind and ("%s: %s"):format(name, kind) or result.type)
    add(lines, wrapped(result.text, "        "))
  end
  if entry.waits then lines[#lines + 1] = "    It waits; other tasks run meanwhile." end
  return table.concat(lines, "\n") .. "\n"
end

local function first_sentence(entry)
  local text = table.concat(entry.text, " ")
  text = text:match("^(.-%.)%s") or text
  return #text > 52 and text:sub(1, 49) .. "..." or text
end

local function overview()
  local lines = {
    "What scripts can use; perigee help lua NAME tells more, for instance chat:send, on_request,",
    "assistant, tool.  A first assistant is in examples/README.md." }
  local title
  for _, entry in ipairs(assert(reference.entries())) do
    if entry.title ~= title then
      title = entry.title
      lines[#lines + 1] = ""
      lines[#lines + 1] = title
    end
    if entry.kind ~= "field" then
      lines[#lines + 1] = ("  %-42s %s"):format(entry.head, first_sentence(entry))
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

---The driver's main function.
---@param arguments table
---@return integer   exit status
function M.main(arguments)
  if not arguments.names or #arguments.names == 0 then
    host.write(1, overview())
    return 0
  end
  for i, name in ipairs(arguments.names) do
    local found, near = reference.find(name)
    if #found == 0 then
      local hint = near and ("; did you mean %s?"):format(near) or "; perigee help lua lists them"
      host.write(2, ("perigee: nothing is called %s%s\n"):format(name, hint))
      return 1
    end
    for k, entry in ipairs(found) do
      host.write(1, (i + k > 2 and "\n" or "") .. whole(entry))
    end
  end
  return 0
end

return M
