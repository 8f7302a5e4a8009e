-- SPDX-License-Identifier: MIT
-- Writes the message for a commit from its diff; a subject that is too long goes back.
--   git diff --cached | perigee run commit -m model.gguf
local MOST <const> = 72

return {
  name = "commit",
  description = "a commit message from a diff",
  from = "demo",
  system = [[
Write the commit message for the diff. First line: what the change does, as a command ("Add",
"Fix"), at most 72 characters, no full stop. Then an empty line, then why, in at most four lines. No
markdown. Reply with the message alone.]],
  parameters = { temp = 0.3 },
  on_message = function(message)
    local text = message.content:gsub("^%s+", ""):gsub("%s+$", "")
    local subject = text:match "^[^\n]*"
    if #subject > MOST then
      return false, ("The first line has %d characters; %d are the most. Write the message again.")
        :format(#subject, MOST)
    end
    return (text:gsub("^([^\n]*[^%.\n])%.?\n?\n?", "%1\n\n"):gsub("%s+$", ""))
  end,
}
