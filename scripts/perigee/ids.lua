-- SPDX-License-Identifier: MIT
-- Ids of calls.  Some formats carry them in the reply, and their models want to find them again
-- beside the result; where none is given, it is given twice, or the template would refuse it, one
-- is made.
local M = {}

-- The ids that a conversation has used.
local function used_ids(chat)
  local used = {}
  for _, message in ipairs(chat.messages) do
    for _, call in ipairs(message.tool_calls or {}) do used[call.id or ""] = true end
    used[message.tool_call_id or ""] = true
  end
  return used
end

---What gives the calls of one reply their ids.
---@param chat perigee.conversation
---@return fun(given: string?): string
function M.maker(chat)
  local wanted, used = chat.format.ids, nil
  return function(given)
    used = used or used_ids(chat)
    local id = given
    if not id or used[id] or wanted and not id:find(wanted.pattern) then
      repeat
        chat.n_id = chat.n_id + 1
        id = (wanted and wanted.form or "call_%d"):format(chat.n_id)
      until not used[id]
    end
    used[id] = true
    return id
  end
end

return M
