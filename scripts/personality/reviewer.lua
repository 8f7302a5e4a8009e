-- SPDX-License-Identifier: MIT
-- A reviewer of changes: give it a diff on stdin.  Remarks that name no file of the diff are left
-- out, because models invent some.
--   git diff | perigee run reviewer -m model.gguf
local function files_of(diff)
  local names = {}
  for path in diff:gmatch "\n%+%+%+ b?/?([^\n\t]+)" do names[#names + 1] = path end
  return names
end

return {
  name = "reviewer",
  description = "reviews a diff: FILE: severity: remark",
  from = "demo",
  system = [[
You review a change to a program. Look for mistakes: wrong results, missing checks, resources that
are not released, names that mislead, tests that are missing. Do not praise, do not repeat the
change. One remark a line, worst first, in this form:
FILE: bug|risk|style: what is wrong and what to do instead
If there is nothing, reply: no remarks]],
  parameters = { temp = 0.2 },
  on_request = function(_, ctx)
    ctx.state.files = files_of("\n" .. ctx.question)
    if #ctx.state.files == 0 then
      return "There is no diff in this. Try: git diff | perigee run reviewer"
    end
  end,
  on_message = function(message, ctx)
    local kept, n_left = {}, 0
    for line in message.content:gmatch "[^\n]+" do
      local is_known = line:find "^no remarks"
      for _, path in ipairs(ctx.state.files) do
        is_known = is_known or line:find(path, 1, true)
      end
      if is_known then kept[#kept + 1] = line else n_left = n_left + 1 end
    end
    if n_left > 0 then ctx:warn(n_left .. " lines that name no file of the diff were left out") end
    return #kept > 0 and table.concat(kept, "\n") or "no remarks"
  end,
}
