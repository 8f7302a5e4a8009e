-- SPDX-License-Identifier: MIT
-- Renders jobs for compare.py, which runs `perigee run driver.lua` in a folder with the files
-- jobs1, jobs2 and so on: lines of JSON as oracle.go reads them, but the template in hexadecimal.
-- The answers are like those of oracle.go.
local perigee = require "perigee"
local chars = require "perigee.jinja.chars"
local gotemplate = require "perigee.gotemplate"

local NOW <const> = { year = 2026, month = 3, day = 9 }

local function render(job)
  local source = job.hex:gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end)
  local t, err = gotemplate.parse(source, "job")
  if not t then
    return nil, err
  elseif job.conversation then
    return t:render(job.conversation, { now = NOW })
  end
  return t:execute(job.data, { now = NOW })
end

local function answer(job)
  local segments, err = render(job)
  local text = {}
  for i, segment in ipairs(segments or {}) do
    text[i] = segment.text
  end
  print(perigee.json.encode { ok = segments ~= nil,
    text = segments and chars.valid(table.concat(text)) or tostring(err) })
end

local n_file = 1
while perigee.fs.exists("jobs" .. n_file) do
  for line in assert(perigee.fs.read("jobs" .. n_file)):gmatch("[^\n]+") do
    perigee.sleep(0) -- a slice of its own for each
    answer(assert(perigee.json.decode(line)))
  end
  n_file = n_file + 1
end
