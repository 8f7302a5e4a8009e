-- SPDX-License-Identifier: MIT
-- A router: easy questions stay with a small model near you, hard ones go to a big one that may be
-- elsewhere, and nothing private ever leaves.
--   perigee run router -m small.gguf --trace          (--trace shows when far answers)
-- This version of Perigee has no network, so "far" is a model file on this machine too: put the
-- path of a bigger one here.  An assistant that does use the network says so in its capabilities,
-- and the rule below already keeps private words from it.
local far = { name = "far", from = "demo", system = "Answer with care and in full." }
local IS_ELSEWHERE <const> = { far = true } -- treated as if it were

local PRIVATE <const> = {
  "[%w._%-]+@[%w_%-]+%.%a",       -- mail addresses
  "%f[%d]%d[%d %-]+%d%d%d%d%f[%D]", -- numbers of cards, telephones, accounts
  "[Pp]assword", "[Ss]ecret", "[Cc]onfidential", "[Dd]iagnos", "[Ss]alary", "%-%-%-BEGIN ",
}

-- The whole conversation goes along, so all of it counts.
local function is_private(messages)
  for _, message in ipairs(messages) do
    for _, pattern in ipairs(PRIVATE) do
      if message.content:find(pattern) then return true end
    end
  end
  return false
end

local function leaves(assistant)
  return IS_ELSEWHERE[assistant.name] or (assistant.capabilities or {}).net ~= nil
end

local function is_hard(question)
  return #question > 400 or question:find "^%s*[Ww]hy" or question:find "[Pp]rove"
    or question:find "[Cc]ompare" or question:find "[Ee]xplain"
end

return {
  name = "router",
  description = "easy questions stay near, hard ones go far, private ones never do",
  from = "demo",
  system = "Answer briefly.",
  route = function(request, ctx)
    if not is_hard(ctx.question) then return end -- near, which is this assistant itself
    if leaves(far) and is_private(request.messages) then
      return ctx:warn("this conversation looks private, so the near model answers")
    end
    return far
  end,
}
