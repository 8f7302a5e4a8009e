-- SPDX-License-Identifier: MIT
-- A scripted model for specs: it has the shape of a model of perigee.sys.engine, says what it is
-- told to say, and counts what it was fed.  Tokens are words with the white space before them, or
-- single characters, or the special tokens of its chat markup.
--   local model = perigee.fake.model { replies = { "Hello.", function(prompt) return "Bye." end } }
--   local chat = perigee.chat { from = model }
-- Each session begins with the first reply; a fork goes on where its parent stood.
local check = require "perigee.check"

local M = {}

---A reply as text, as the list of its tokens' texts, or as a function that returns either.
---@alias perigee.fake.reply string|string[]|fun(prompt: string, n: integer): string|string[]

---What a scripted model says, and how it seems.
---@class perigee.fake.options
---@field replies? perigee.fake.reply[]|fun(prompt: string, n: integer): string|string[]
---@field template? string      Jinja chat template; a small one of its own unless given
---@field tokens? "word"|"char" what a token is
---@field ctx? integer          tokens of context, 4096 unless given
---@field special? string[]     special tokens besides those of its template
---@field bos? string           a special token that texts begin with
---@field fail? string          every feed fails with this text

-- Same markup as examples/demo-model, tools as JSON.
local TEMPLATE <const> = [[
{%- for m in messages %}
  {%- if m.role == 'tool' %}{{- '<|tool|>' + m.content + '<|end|>' }}
  {%- else %}
    {{- '<|' + m.role + '|>' + m.content }}
    {%- if loop.first and tools %}{{- '\nTools:' + (tools | tojson) }}{%- endif %}
    {%- for call in m.tool_calls or [] %}
      {{- '<tool_call>{"name": ' + (call.function.name | tojson) + ', "arguments": ' }}
      {{- (call.function.arguments | tojson) + '}</tool_call>' }}
    {%- endfor %}
    {{- '<|end|>' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}]]

local SPECIAL <const> = { "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>" }

local function check_replies(v, path)
  if type(v) == "function" then return v end
  return check.list(v, path, function(reply, where)
    if type(reply) == "table" then return check.strings(reply, where) end
    if type(reply) == "string" or type(reply) == "function" then return reply end
    return nil, check.wrong(where, reply, "a string, a list of tokens, or a function of the prompt")
  end)
end

local function check_tokens(v, path)
  if v == "word" or v == "char" then return v end
  return nil, check.wrong(path, v, '"word" or "char"')
end

local OPTIONS <const> = {
  replies = { expected = "a list of replies or a function of the prompt", check = check_replies },
  template = { kind = "string" },
  tokens = { kind = "string", check = check_tokens },
  ctx = { kind = "integer", expected = "an integer" },
  special = { check = check.strings },
  bos = { kind = "string" },
  fail = { kind = "string" },
}

---@class perigee.fake.model
local Model = {}
Model.__index = Model
Model.__name = "perigee.fake.model"

---@class perigee.fake.session
local Session = {}
Session.__index = Session
Session.__name = "perigee.fake.session"

local function id_of(self, text, is_special)
  local key = (is_special and "s" or "t") .. text
  local id = self.ids[key]
  if not id then
    id = #self.texts + 1
    self.ids[key], self.texts[id], self.is_special[id] = id, text, is_special
  end
  return id
end

local function plain_tokens(self, text, out)
  local pattern = self.options.tokens == "char" and utf8.charpattern or "%s*%S+"
  local at = 1
  while at <= #text do
    local from, to = text:find(pattern, at)
    if not from or from > at then from, to = at, from and from - 1 or #text end
    out[#out + 1] = id_of(self, text:sub(from, to), false)
    at = to + 1
  end
end

local function next_special(self, text, at)
  local first, last
  for _, special in ipairs(self.special) do
    local from, to = text:find(special, at, true)
    if from and (not first or from < first) then first, last = from, to end
  end
  return first, last
end

-- Text with special tokens, as the markup of a template has them.
local function markup_tokens(self, text, out)
  local at = 1
  while at <= #text do
    local from, to = next_special(self, text, at)
    plain_tokens(self, text:sub(at, (from or #text + 1) - 1), out)
    if not from then return end
    out[#out + 1] = id_of(self, text:sub(from, to), true)
    at = to + 1
  end
end

---What a model says about itself.
function Model:info()
  local o = self.options
  return {
    path = "fake", architecture = "fake", n_ctx = o.ctx, n_vocab = 1 << 20, template = o.template,
    device = "none", bos_text = o.bos or "", eos_text = "<|end|>", add_bos = o.bos ~= nil,
    sampling = {},
  }
end

---Token ids of a text or of segments.
---@param text string|perigee.segment[]
---@param opts? { parse_special: boolean? }
---@return integer[]
function Model:tokenize(text, opts)
  local out = {}
  local segments = type(text) == "string" and { { text = text, input = false } } or text
  for _, segment in ipairs(segments) do
    local has_markup = opts and opts.parse_special and not segment.input
    local read = has_markup and markup_tokens or plain_tokens
    read(self, segment.text, out)
  end
  return out
end

---The text of tokens; special ones only where wanted.
---@param ids integer[]
---@param want_special? boolean
---@return string
function Model:detokenize(ids, want_special)
  local out = {}
  for _, id in ipairs(ids) do
    if want_special or not self.is_special[id] then out[#out + 1] = self.texts[id] or "?" end
  end
  return table.concat(out)
end

---A session; the sampling parameters are kept for specs to look at.
---@param sampling? table
---@return perigee.fake.session
function Model:session(sampling)
  local session = setmetatable({
    model = self, ids = {}, sampling_used = sampling or {}, n_reply = 0,
    counts = { fed = 0, rewound = 0, generated = 0, forks = 0 },
  }, Session)
  table.insert(self.sessions, session)
  return session
end

---A session saved before.
---@param path string
---@param sampling? table   instead of what was saved
---@return perigee.fake.session?
---@return perigee.error?
function Model:restore(path, sampling)
  local saved = self.saved[path]
  if not saved then return nil, check.err("not_found", path .. ": no such session") end
  local session = self:session(sampling or saved.sampling)
  session.ids, session.n_reply = table.move(saved.ids, 1, #saved.ids, 1, {}), saved.n_reply
  return session
end

function Model:close()
  self.is_closed = true
end
Model.__close = Model.close

---Take in tokens.
---@param ids integer[]
function Session:feed(ids)
  local options = self.model.options
  if options.fail then return nil, check.err("fake", options.fail) end
  if #self.ids + #ids > options.ctx then return nil, check.err("context", "the context is full") end
  table.move(ids, 1, #ids, #self.ids + 1, self.ids)
  self.counts.fed = self.counts.fed + #ids
  return true
end

local function next_reply(self)
  local replies, prompt = self.model.options.replies, self.model:detokenize(self.ids, true)
  self.n_reply = self.n_reply + 1
  local reply = replies
  if type(replies) == "table" then reply = replies[self.n_reply] end
  if type(reply) == "function" then reply = reply(prompt, self.n_reply) end
  if type(reply) == "string" then return reply end
  local tokens = type(reply) == "table" and check.strings(reply, "reply")
  if tokens then return table.concat(tokens), tokens end
  local found = check.describe(reply)
  error(("reply %d of the fake model: found %s, expected a string"):format(self.n_reply, found), 0)
end

local function cut_at_stop(text, stops)
  local first, which
  for _, stop in ipairs(stops or {}) do
    local at = text:find(stop, 1, true)
    if at and (not first or at < first) then first, which = at, stop end
  end
  return first and text:sub(1, first - 1) or text, which
end

---@class perigee.fake.stream
local Stream = {}
Stream.__index = Stream

---Say the next reply, a token an event.
---@param opts? { max: integer?, stop: string[]? }
function Session:generate(opts)
  opts = opts or {}
  local reply, tokens = next_reply(self)
  local text, which = cut_at_stop(reply, opts.stop)
  local ids = {}
  if tokens and not which then
    for i, token in ipairs(tokens) do ids[i] = id_of(self.model, token, false) end
  else
    ids = self.model:tokenize(text, { parse_special = true })
  end
  return setmetatable({ session = self, ids = ids, at = 0, max = opts.max or math.huge,
    why = which and "stop" or "eog", which = which }, Stream)
end

local function done(self, why)
  self.is_done = true
  return { done = why, text = "", stop = why == "stop" and self.which or nil }
end

---The next token, or how it ended; nil behind that.
function Stream:next()
  local session = self.session
  if self.is_done then return nil end
  if self.is_cancelled then return done(self, "cancelled") end
  if self.at >= #self.ids then return done(self, self.why) end
  if self.at >= self.max then return done(self, "length") end
  if #session.ids >= session.model.options.ctx then return done(self, "context") end
  self.at = self.at + 1
  local id = self.ids[self.at]
  session.ids[#session.ids + 1] = id
  session.counts.generated = session.counts.generated + 1
  return { id = id, text = session.model:detokenize({ id }, true) }
end

function Stream:cancel()
  self.is_cancelled = true
end

---Forget it; nothing more comes.
function Stream:close()
  self.is_done = true
end

---A copy of the tokens held.
function Session:tokens()
  return table.move(self.ids, 1, #self.ids, 1, {})
end

function Session:n_tok()
  return #self.ids
end

function Session:mark()
  return #self.ids
end

---Drop the tokens behind the first n.
---@param n integer
function Session:rewind(n)
  self.counts.rewound = self.counts.rewound + #self.ids - n
  for i = #self.ids, n + 1, -1 do self.ids[i] = nil end
  return true
end

function Session:fork()
  local child = self.model:session(self.sampling_used)
  child.ids, child.n_reply = self:tokens(), self.n_reply
  self.counts.forks = self.counts.forks + 1
  return child
end

function Session:save(path)
  local saved = { ids = self:tokens(), n_reply = self.n_reply, sampling = self.sampling_used }
  self.model.saved[path] = saved
  return true
end

---Change sampling parameters; those not named stay.
function Session:sampling(params)
  local all = check.shallow(self.sampling_used)
  for name, v in next, params do all[name] = v end
  self.sampling_used = all
  return true
end

function Session:stats()
  return check.shallow(self.counts)
end

function Session:close()
  self.is_closed = true
end
Session.__close = Session.close

---A scripted model.  model.sessions lists its sessions, session:stats() what was fed, rewound and
---generated.
---@param options perigee.fake.options
---@return perigee.fake.model
function M.model(options)
  local o, text = check.table(options, OPTIONS, "")
  if not o then check.blame(text) end
  o.template, o.tokens, o.ctx = o.template or TEMPLATE, o.tokens or "word", o.ctx or 4096
  o.replies = o.replies or {}
  local self = setmetatable({ options = o, ids = {}, texts = {}, is_special = {}, sessions = {},
    saved = {}, special = check.shallow(SPECIAL) }, Model)
  for _, special in ipairs(o.special or {}) do table.insert(self.special, special) end
  if o.bos then table.insert(self.special, o.bos) end
  return self
end

return M
