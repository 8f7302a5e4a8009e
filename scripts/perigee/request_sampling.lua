-- SPDX-License-Identifier: MIT
-- Parameters that a hook changes for one reply: the session gets them before the reply, and what
-- the chat has before the next one.  (Not behind the reply: an answer may be left where nothing can
-- be waited for.)
local check = require "perigee.check"
local json = require "perigee.sys.json"
local parameters = require "perigee.parameters"

local M = {}

-- What differs between the request and the chat, and what takes it back; json.null: the default.
local function differences(chat, request)
  local wanted = parameters.pick(request.parameters, "sampling")
  local own = parameters.pick(chat.parameters, "sampling")
  local now, back = {}, {}
  for name, v in next, wanted do
    if v ~= own[name] then
      now[name], back[name] = v, json.null
      if own[name] ~= nil then back[name] = own[name] end
    end
  end
  for name, v in next, own do
    if wanted[name] == nil then now[name], back[name] = json.null, v end
  end
  return now, back
end

local function fixed(chat, request)
  for name, v in next, parameters.pick(request.parameters, "model") do
    if v ~= chat.parameters[name] then
      local text = "on_request: parameters.%s cannot change: the model is open"
      return check.err("hook", text:format(name))
    end
  end
end

---Give the session what a request asks for.
---@param chat perigee.conversation
---@param request perigee.request
---@return perigee.error? err
function M.apply(chat, request)
  local now, back = {}, {}
  if request ~= chat then
    local err = fixed(chat, request)
    if err then return err end
    now, back = differences(chat, request)
  end
  local path, advised = "on_request: parameters", chat.info.sampling
  local changes, text = parameters.changes(now, path, advised)
  local undo, wrong = parameters.changes(back, path, advised)
  if not changes or not undo then return check.err("hook", changes and wrong or text) end
  local all = check.shallow(chat.undo or {})
  for name, v in next, changes do all[name] = v end
  if next(all) ~= nil then
    local ok, err = chat:set_sampling(all)
    if not ok then return err end
  end
  chat.undo = next(undo) ~= nil and undo or nil
end

return M
