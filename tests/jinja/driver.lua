-- SPDX-License-Identifier: MIT
-- Renders templates for compare.py, which runs `perigee run driver.lua` in a folder that holds the
-- files job1, job2 and so on.  Each is a JSON object: source (a template, its bytes in hexadecimal)
-- and vars.  The answer to each is a line of JSON: ok, text (or what the error says) and micros.
-- Every second job marks its variables as input, which must not change the text.
local perigee = require "perigee"
local jinja = require "perigee.jinja"

local NOW <const> = { year = 2026, month = 3, day = 9, hour = 14, min = 5, sec = 7 }

local last_source, last_template, last_error

local function marked(vars)
  local out = {}
  for name, value in pairs(vars) do
    out[name] = jinja.input(value)
  end
  return out
end

local function render(source, vars)
  if source ~= last_source then
    last_source = source
    last_template, last_error = jinja.parse(source, "template")
  end
  if not last_template then
    return nil, last_error
  end
  return last_template:render(vars, { now = NOW })
end

local n_job = 1
while perigee.fs.exists("job" .. n_job) do
  perigee.sleep(0) -- a slice of its own for each
  local job = assert(perigee.json.decode(assert(perigee.fs.read("job" .. n_job))))
  local source = job.source:gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end)
  local start = perigee.time()
  local segments, err = render(source, n_job % 2 == 0 and marked(job.vars) or job.vars)
  local micros = math.floor((perigee.time() - start) * 1e6)
  print(perigee.json.encode { ok = segments ~= nil, micros = micros,
    text = segments and jinja.text(segments) or tostring(err) })
  n_job = n_job + 1
end
