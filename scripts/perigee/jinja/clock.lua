-- SPDX-License-Identifier: MIT
-- strftime for strftime_now.  The time comes from whoever renders; nothing here reads a clock.
local S = require "perigee.jinja.state"

local M = {}

local DAYS <const> = { "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  "Sunday" }
local MONTHS <const> = { "January", "February", "March", "April", "May", "June", "July", "August",
  "September",
  "October", "November", "December" }

-- Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
local function days_of(year, month, day)
  local y = month <= 2 and year - 1 or year
  local era = y // 400
  local yoe = y - era * 400
  local doy = (153 * (month + (month > 2 and -3 or 9)) + 2) // 5 + day - 1
  return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468
end

local function date_of(days)
  days = days + 719468
  local era = days // 146097
  local doe = days - era * 146097
  local yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
  local doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
  local mp = (5 * doy + 2) // 153
  local month = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (month <= 2 and 1 or 0), month, doy - (153 * mp + 2) // 5 + 1
end

--- Fields of a time: seconds since 1970 (UTC), a table of year, month, day, hour, min, sec, or a
--- function giving either.
---@param now number|table|function|nil
---@return table
function M.fields(now)
  if type(now) == "function" then
    now = now()
  end
  local t = {}
  if type(now) == "number" then
    local seconds = math.floor(now)
    t.year, t.month, t.day = date_of(seconds // 86400)
    t.hour, t.min, t.sec = seconds // 3600 % 24, seconds // 60 % 60, seconds % 60
  elseif type(now) == "table" then
    for _, name in ipairs { "year", "month", "day", "hour", "min", "sec" } do
      t[name] = math.tointeger(now[name] or 0) or 0
    end
  else
    S.fail("strftime_now: no time was given for this rendering")
  end
  t.days = days_of(t.year, t.month, t.day)
  t.weekday = (t.days + 3) % 7
  t.yearday = t.days - days_of(t.year, 1, 1)
  return t
end

local function two(name)
  return function(t) return ("%02d"):format(t[name]) end
end

local function hour12(t)
  return (t.hour + 11) % 12 + 1
end

local function iso_week(t)
  local thursday = t.days - t.weekday + 3
  local year = date_of(thursday)
  return year, (thursday - days_of(year, 1, 1)) // 7 + 1
end

local F
F = {
  a = function(t) return DAYS[t.weekday + 1]:sub(1, 3) end,
  A = function(t) return DAYS[t.weekday + 1] end,
  b = function(t) return MONTHS[t.month]:sub(1, 3) end,
  B = function(t) return MONTHS[t.month] end,
  C = function(t) return ("%02d"):format(t.year // 100) end,
  d = two "day", H = two "hour", m = two "month", M = two "min", S = two "sec",
  e = function(t) return ("%2d"):format(t.day) end,
  f = function() return "000000" end,
  G = function(t) return ("%d"):format((iso_week(t))) end,
  I = function(t) return ("%02d"):format(hour12(t)) end,
  j = function(t) return ("%03d"):format(t.yearday + 1) end,
  k = function(t) return ("%2d"):format(t.hour) end,
  l = function(t) return ("%2d"):format(hour12(t)) end,
  n = function() return "\n" end,
  p = function(t) return t.hour < 12 and "AM" or "PM" end,
  s = function(t) return ("%d"):format(((t.days * 24 + t.hour) * 60 + t.min) * 60 + t.sec) end,
  t = function() return "\t" end,
  u = function(t) return ("%d"):format(t.weekday + 1) end,
  U = function(t) return ("%02d"):format((t.yearday + 7 - (t.weekday + 1) % 7) // 7) end,
  V = function(t) return ("%02d"):format((select(2, iso_week(t)))) end,
  w = function(t) return ("%d"):format((t.weekday + 1) % 7) end,
  W = function(t) return ("%02d"):format((t.yearday + 7 - t.weekday) // 7) end,
  y = function(t) return ("%02d"):format(t.year % 100) end,
  Y = function(t) return ("%d"):format(t.year) end,
  z = function() return "" end,
  Z = function() return "" end,
}
F.h = F.b

local LONG <const> = { c = "%a %b %e %H:%M:%S %Y", D = "%m/%d/%y", F = "%Y-%m-%d",
  r = "%I:%M:%S %p", R = "%H:%M",
  T = "%H:%M:%S", x = "%m/%d/%y", X = "%H:%M:%S" }

local function expand(text, t)
  return (text:gsub("%%([-_0^#]?)(.?)", function(flag, c)
    if c == "%" then
      return "%"
    elseif LONG[c] then
      return expand(LONG[c], t)
    end
    local f = F[c]
    if not f then
      return "%" .. flag .. c
    end
    local out = f(t)
    if flag == "-" then
      out = out:gsub("^[0 ]+(%d)", "%1")
    elseif flag == "_" then
      out = out:gsub("^0+(%d)", function(rest) return (" "):rep(#out - #rest) .. rest end)
    elseif flag == "^" then
      out = out:upper()
    end
    return out
  end))
end

---@param text string
---@param now number|table|function|nil
---@return string
function M.strftime(text, now)
  S.alloc(12 * #text)
  return expand(text, M.fields(now))
end

return M
