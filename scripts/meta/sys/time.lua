---@meta perigee.sys.time
-- SPDX-License-Identifier: MIT

local time = {}

---@return number   seconds since 1970
function time.now() end

---@return number   seconds from some fixed point, which no clock setting moves
function time.monotonic() end

---@param format? string    of strftime; "!" in front: UTC.  "%Y-%m-%d %H:%M:%S" unless given
---@param seconds? number   since 1970, now unless given
---@return string
function time.date(format, seconds) end

return time
