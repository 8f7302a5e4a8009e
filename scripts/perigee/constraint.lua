-- SPDX-License-Identifier: MIT
-- The parameter `format` of a chat: before each reply the session gets the grammar that fits where
-- the prompt ends (inside thinking or not), and loses it again when no format is asked for.
local check = require "perigee.check"
local format = require "perigee.format"
local grammar = require "perigee.grammar"

local M = {}

local function release(chat, parameters)
  chat.constraint = nil
  local ok, err = chat:set_sampling { grammar = parameters.grammar or "",
    grammar_trigger = parameters.grammar_trigger or {} }
  return not ok and err or nil
end

-- Calls are told by their markers, which a grammar can write only where they are text.
local function unfit(chat)
  if #chat.tools > 0 and chat.wants_special then
    return check.err("format", "format: the model marks calls by control tokens, which have no "
      .. "text for a grammar; a format is for chats without tools here")
  end
end

-- A format may serve models with and without thinking: what the template shows tells.
local function thinking_of(chat, segments)
  if format.is_thinking(chat.format, segments) then return "inside" end
  local marks, source = chat.format.thinking, chat.prompt.source
  local shown = marks and (source:find(marks.open, 1, true) or source:find(marks.close, 1, true))
  return shown and "may" or "never"
end

---Give the session what the next reply must be.
---@param chat perigee.conversation
---@param parameters perigee.parameters
---@param segments perigee.segment[]   the prompt
---@return perigee.error? err
function M.apply(chat, parameters, segments)
  local wanted, had = parameters.format, chat.constraint
  if wanted == nil then return had and release(chat, parameters) or nil end
  if parameters.grammar and parameters.grammar ~= "" then
    return check.err("format", "format: a grammar is given too; keep one of the two")
  end
  local thinking = thinking_of(chat, segments)
  if had and had.wanted == wanted and had.thinking == thinking then return nil end
  local wrong = unfit(chat)
  if wrong then return wrong end
  local gbnf, triggers = grammar.reply(wanted, chat.format, thinking, #chat.tools > 0)
  if not gbnf then return check.err("format", triggers) end
  local ok, err = chat:set_sampling { grammar = gbnf, grammar_trigger = triggers }
  if not ok then return err end
  chat.constraint = { wanted = wanted, thinking = thinking }
end

return M
