-- SPDX-License-Identifier: MIT
-- Loops that search.  Published templates look for a message by
--   {% for j in range(...) %}{% if not found.yes %} ... {% set found.yes = true %} ... {% endif %}
-- with no break, so each message looks at all others. Where the body is one `if` and what decides
-- cannot change any more, the runs that are left do nothing, and are left out.
local M = {}

local PURE <const> = { const = true, none = true, big = true, ["not"] = true, ["and"] = true,
  ["or"] = true, attr = true, name = true }

-- Does a test give the same whatever element the loop is at, as long as the body does nothing?
local function is_fixed(node, target)
  if node.t and not PURE[node.t] or node.name == target or node.name == "loop" then
    return false
  end
  for _, child in pairs(node) do
    if type(child) == "table" and not is_fixed(child, target) then
      return false
    end
  end
  return true
end

--- Mark the `if` of a loop's body with the number of its first tests that are fixed so
--- (`n_fixed`): when these alone have chosen a branch without content, the loop is at its end.
---@param s table   a for
function M.mark(s)
  local body = s.body[1]
  if #s.body ~= 1 or body.t ~= "if" or s.test or s.recursive or s.target.t ~= "name" then
    return
  end
  local n = 0
  while body.tests[n + 1] and is_fixed(body.tests[n + 1], s.target.name) do
    n = n + 1
  end
  body.n_fixed = n
end

return M
