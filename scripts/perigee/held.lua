-- SPDX-License-Identifier: MIT
-- What a session holds of a conversation, and how it gets the next prompt with the least work.
--
-- The template renders the whole conversation each turn.  Where the text held is the beginning of
-- the new text, only the rest is tokenized and fed: tokens the model chose stay as they are, even
-- if the tokenizer would split that text otherwise.  Else (a template that drops old thinking, an
-- edited message) the whole is tokenized, the session rewound to the longest common beginning,
-- and the rest fed.  Two texts are the same only if the same parts of them are input; text that
-- the model wrote matches either way.
local check = require "perigee.check"

local M = {}

local PLAIN <const> = { add_special = false, parse_special = false }
local MARKUP <const> = { add_special = false, parse_special = true }

---@class perigee.held
---@field session table               as perigee.sys.engine offers it
---@field segments perigee.segment[]  what the session's tokens say; is_own: the model wrote it
---@field is_known boolean            segments are complete
---@field model table
---@field info table

---@param model table
---@param session table
---@return perigee.held
function M.new(model, session)
  return { model = model, info = model:info(), session = session, segments = {}, is_known = true }
end

-- Does a text alone begin with another token than inside a text (a space put in front)?
local function adds_space(self)
  if self.is_spaced == nil then
    local alone = self.model:tokenize("x", PLAIN)
    local inside = self.model:tokenize("\nx", PLAIN)
    self.is_spaced = alone[#alone] ~= inside[#inside]
  end
  return self.is_spaced
end

-- Some files want a token of beginning in front that their template may or may not write.
local function with_bos(info, segments)
  local bos = info.bos_text
  if not info.add_bos or not bos or bos == "" then return segments end
  local first = segments[1]
  if first and not first.input and first.text:sub(1, #bos) == bos then return segments end
  local out = { { text = bos, input = false } }
  return table.move(segments, 1, #segments, 2, out)
end

-- What is left of `new` behind `old`; nil when old is not its beginning.
local function rest_behind(old, new)
  local i, at = 1, 1
  for _, segment in ipairs(old) do
    local from, text = 1, segment.text
    while from <= #text do
      local other = new[i]
      if not other then return nil end
      local n = math.min(#text - from, #other.text - at)
      local is_same = segment.is_own or (segment.input or false) == (other.input or false)
      if not is_same or text:sub(from, from + n) ~= other.text:sub(at, at + n) then return nil end
      from, at = from + n + 1, at + n + 1
      if at > #other.text then i, at = i + 1, 1 end
    end
  end
  local rest = {}
  for j = i, #new do
    local text = j == i and new[j].text:sub(at) or new[j].text
    if text ~= "" then rest[#rest + 1] = { text = text, input = new[j].input or false } end
  end
  return rest
end

local function common(a, b)
  local n = 0
  while n < #a and n < #b and a[n + 1] == b[n + 1] do n = n + 1 end
  return n
end

-- A rest that begins with plain text may tokenize otherwise alone than behind what is held.
local function is_safe(self, rest, ids)
  if not rest[1].input and self.model:detokenize({ ids[1] }, false) == "" then return true end
  return not adds_space(self)
end

-- The tokens to feed and how many of the held ones stay.
local function plan(self, segments)
  local rest = self.is_known and rest_behind(self.segments, segments)
  local held, wrong = self.session:n_tok()
  if not held then return nil, wrong end
  if rest and held > 0 and #rest > 0 then
    local ids, err = self.model:tokenize(rest, MARKUP)
    if not ids then return nil, err end
    if #ids > 0 and is_safe(self, rest, ids) then return ids, held, held end
  end
  local all, err = self.model:tokenize(segments, MARKUP)
  if not all then return nil, err end
  local before, lost = self.session:tokens()
  if not before then return nil, lost end
  local keep = common(before, all)
  if keep == #all then keep = keep - 1 end -- the last token again: its logits choose the next
  keep = math.max(keep, 0)
  return table.move(all, keep + 1, #all, 1, {}), keep, held
end

---Bring the session to the end of the prompt.
---@param self perigee.held
---@param segments perigee.segment[]
---@return { prompt: integer, cached: integer, new: integer, ids: integer[] }?
---@return perigee.error? err
function M.feed(self, segments)
  segments = with_bos(self.info, segments)
  local ids, keep, held = plan(self, segments)
  if not ids then return nil, check.as_err(keep, "tokens") end
  local n, n_ctx = keep + #ids, self.info.n_ctx
  if n >= n_ctx then
    local text = ("the conversation is %d tokens long, and the context of %d must hold it and a "
      .. "reply; start a new chat, or give the assistant a larger parameters.ctx"):format(n, n_ctx)
    return nil, check.err("context", text, { n_tok = n, n_ctx = n_ctx })
  end
  if keep < held then
    local ok, err = self.session:rewind(keep)
    if not ok then return nil, check.as_err(err, "session") end
  end
  self.is_known = false
  local ok, err = self.session:feed(ids)
  if not ok then return nil, check.as_err(err, "session") end
  self.segments, self.is_known, self.n_prompt, self.fed = segments, true, n, ids
  return { prompt = n, cached = keep, new = #ids, ids = ids }
end

-- Do the tokens of the prompt still end with those fed?  Healing may have replaced the last ones.
local function keeps_prompt(self, ids)
  local first = self.n_prompt - #self.fed
  for i, id in ipairs(self.fed) do
    if ids[first + i] ~= id then return false end
  end
  return true
end

---Note what the model wrote behind the prompt, as the session's tokens say it.
---@param self perigee.held
function M.note_reply(self)
  self.is_known = false
  local ids = self.session:tokens()
  if not ids or not keeps_prompt(self, ids) then return end
  local before = self.model:detokenize(table.move(ids, 1, self.n_prompt, 1, {}), true)
  local all = before and self.model:detokenize(ids, true)
  if not all or all:sub(1, #before) ~= before then return end
  local out = table.move(self.segments, 1, #self.segments, 1, {})
  out[#out + 1] = { text = all:sub(#before + 1), is_own = true }
  self.segments, self.is_known = out, true
end

---What to remember in order to come back here.
---@param self perigee.held
---@return table?
---@return perigee.error? err
function M.mark(self)
  local ids, err = self.session:tokens()
  if not ids then return nil, check.as_err(err, "session") end
  return { segments = self.segments, is_known = self.is_known, ids = ids }
end

---Go back to a mark where the session still begins with what it held then; else the next feed finds
---the longest common beginning.
---@param self perigee.held
---@param mark table
---@return boolean? ok
---@return perigee.error? err
function M.rewind(self, mark)
  local ids, lost = self.session:tokens()
  if not ids then return nil, check.as_err(lost, "session") end
  if common(ids, mark.ids) < #mark.ids then return true end
  local ok, err = self.session:rewind(#mark.ids)
  if not ok then return nil, check.as_err(err, "session") end
  self.segments, self.is_known = mark.segments, mark.is_known
  return true
end

---What to save in order to know the session's text after it was restored.
---@param self perigee.held
---@return table
function M.save(self)
  return { segments = self.segments, is_known = self.is_known, n_prompt = self.n_prompt or 0 }
end

---Take what was saved, if it can be that; else the next feed compares tokens.
---@param self perigee.held
---@param saved any   from a file
function M.restore(self, saved)
  self.is_known = false
  if not check.is_object(saved) or not check.is_array(saved.segments) then return end
  for _, segment in ipairs(saved.segments) do
    if type(segment) ~= "table" or type(segment.text) ~= "string" then return end
  end
  self.segments, self.n_prompt = saved.segments, math.tointeger(saved.n_prompt)
  self.is_known = saved.is_known == true and self.n_prompt ~= nil
end

---The same knowledge about a fork of the session.
---@param self perigee.held
---@param session table
---@return perigee.held
function M.fork(self, session)
  local other = check.shallow(self)
  other.session = session
  return other
end

return M
