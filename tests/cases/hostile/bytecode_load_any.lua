-- SPDX-License-Identifier: MIT
-- The same without a mode, from a function.
-- expect: attempt to load a binary chunk
-- status: OTHER
local given
assert(load(function()
  if given then return nil end
  given = true
  return "\27Lua\x54"
end))
