-- SPDX-License-Identifier: MIT
-- Models and sessions as scripts see them: thin objects over perigee.sys.engine that take text as
-- well as tokens, and keep files inside the script's grants.
local engine = require "perigee.sys.engine"
local find = require "perigee.store.find"
local loop = require "perigee.sys.loop"
local sampler = require "perigee.sampler"

local M = {}

-- What scripts hold is an empty table; what it stands for is kept here.
local PRIVATE <const> = setmetatable({}, { __mode = "k" })

---How a model is opened.
---@class perigee.model.options
---@field ctx? integer        tokens of context; the trained length, as far as memory allows, if nil
---@field sessions? integer   full contexts there is room for, 4 unless given
---@field batch? integer      most tokens in one step, 512 unless given
---@field kv? "f16"|"f32"|"q8_0"|"q4_0" type of the stored keys and values
---@field device? string      "cpu": that one; "cuda:0,cpu": these, the preferred first; nil: the
---                           best predicted
---@field place? string       "layers 0-9 on cuda:0; experts on cpu; head on cuda:1": what must be
---                           where, as perigee explain --help says
---@field weights? "auto"|"map"|"copy"   where processors read weights: a copy in large pages where
---                           there is room, always the mapped file, always a copy

---An open model.
---@class perigee.model
---@field info perigee.sys.engine.info   what it is; a table that cannot be changed
local Model = {}
Model.__name = "perigee.model"
Model.__metatable = "perigee.model"

---A session: tokens that a model holds, to go on from.
---@class perigee.session
local Session = {}
Session.__index = Session
Session.__name = "perigee.session"
Session.__metatable = "perigee.session"

---How text is fed.
---@class perigee.feed.options
---@field special? boolean   read the text of control tokens as those tokens
---@field on_progress? fun(done: integer, total: integer)   called while a long prompt is computed

---How text becomes tokens.
---@class perigee.tokenize.options
---@field special? boolean   read the text of control tokens as those tokens
---@field bos? boolean       add the tokens that begin a text, true unless given

local function model_of(self)
  return PRIVATE[self] or loop.blame("expected a model; call with a colon: model:session()")
end

local function session_of(self)
  return PRIVATE[self] or loop.blame("expected a session; call with a colon: session:feed(text)")
end

local function wrap_session(inner, model)
  local self = setmetatable({}, Session)
  PRIVATE[self] = { inner = inner, model = model }
  return self
end

---A model of the engine as an object for scripts.
local function wrap_model(inner)
  local self = setmetatable({}, Model)
  PRIVATE[self] = { inner = inner, info = inner:info() }
  engine.wrapped[self] = inner
  return self
end

---Open a model: perigee.model.
---@param path string   of a model file, or the name of a model in a store
---@param options? perigee.model.options
---@return perigee.model?
---@return perigee.error? err
---@async
function M.open(path, options)
  local file, wrong = path, nil
  if type(path) == "string" then file, wrong = find.model_file(path) end
  if wrong then return nil, wrong end
  local inner, err = engine.open(file, options)
  if not inner then return nil, err end
  return wrap_model(inner)
end

-- ---- models ----

-- Each reader of info gets a table of its own.
local function copy_info(info)
  local out = {}
  for key, value in pairs(info) do
    out[key] = type(value) == "table" and copy_info(value) or value
  end
  return out
end

local function prepared(params)
  local out, text = sampler.prepare(params)
  if text then loop.blame(text) end
  return out
end

---An empty session.
---@param params? perigee.sampling   sampling parameters: temp, top_k, top_p, min_p, seed, ...; and
---sampler, a chain as assistants have it, and format, what the text must look like (grammar.lua)
---@return perigee.session?
---@return perigee.error? err
---@async
function Model:session(params)
  local model = model_of(self)
  local inner, err = model.inner:session(prepared(params))
  if not inner then return nil, err end
  return wrap_session(inner, model)
end

---A session saved before, with the same model.  Its parameters are those given; without them it
---goes on as it was saved, and session:set starts from the defaults.
---@param path string   in a folder the script may read
---@param params? perigee.sampling
---@return perigee.session?
---@return perigee.error? err
---@async
function Model:restore(path, params)
  local model = model_of(self)
  local allowed, why = engine.locate(path, "read")
  if not allowed then return nil, why end
  local inner, err = model.inner:restore(allowed, params)
  if not inner then return nil, err end
  return wrap_session(inner, model)
end

---Text, or segments { { text =, input = true }, ... }, as token ids.
---@param text string|perigee.segment[]
---@param options? perigee.tokenize.options
---@return integer[]
function Model:tokenize(text, options)
  local model = model_of(self)
  local special, bos = false, true
  for key, value in pairs(options or {}) do
    if key ~= "special" and key ~= "bos" then
      loop.blame(('tokenize: unknown key "%s"; known are bos, special'):format(tostring(key)))
    elseif type(value) ~= "boolean" then
      loop.blame(("tokenize: %s: found %s, expected true or false"):format(key, type(value)))
    end
    if key == "special" then special = value else bos = value end
  end
  return model.inner:tokenize(text, { add_special = bos, parse_special = special })
end

---The text of token ids.
---@param ids integer[]
---@param want_special? boolean   show control tokens
---@return string
function Model:detokenize(ids, want_special)
  return model_of(self).inner:detokenize(ids, want_special)
end

---Give the model back; its sessions go on until they are closed.
function Model:close()
  local model = model_of(self)
  model.inner:close()
end
Model.__close = Model.close

function Model.__index(self, key)
  if key == "info" then return copy_info(model_of(self).info) end
  return Model[key]
end

-- ---- sessions ----

local function read_feed_options(options)
  local special, on_progress = false, nil
  for key, value in pairs(options or {}) do
    if key == "special" then
      special = value
    elseif key == "on_progress" then
      on_progress = value
    else
      loop.blame(('feed: unknown key "%s"; known are on_progress, special'):format(tostring(key)))
    end
  end
  if type(special) ~= "boolean" then
    loop.blame(("feed: special: found %s, expected true or false"):format(type(special)))
  end
  return special, on_progress
end

-- Ids stand for themselves; text and segments go through the tokenizer, with the tokens that begin
-- a text where the session is empty.
local function to_ids(session, x, special)
  if type(x) == "table" and type(x[1]) ~= "table" then return x end
  local n, err = session.inner:n_tok()
  if not n then return nil, err end
  return session.model.inner:tokenize(x, { add_special = n == 0, parse_special = special })
end

---Append text, token ids, or segments; waits until they are computed.
---@param x string|integer[]|perigee.segment[]
---@param options? perigee.feed.options
---@return boolean?
---@return perigee.error? err
---@async
function Session:feed(x, options)
  local session = session_of(self)
  if type(x) ~= "string" and type(x) ~= "table" then
    loop.blame("feed: found " .. type(x) .. ", expected a string, a list of ids, or segments")
  end
  local special, on_progress = read_feed_options(options)
  local ids, err = to_ids(session, x, special)
  if not ids then return nil, err end
  local ok, wrong = session.inner:feed(ids, on_progress)
  if not ok then return nil, wrong end
  return true
end

-- The options with the session beside as the engine knows it.
local function generate_options(options)
  if type(options) ~= "table" or options.beside == nil then return options end
  local other = PRIVATE[options.beside]
  if not other then loop.blame("generate: beside: found no session of this script") end
  local out = {}
  for key, value in next, options do out[key] = value end
  out.beside = other.inner
  return out
end

---Generate: for ev in session:generate { max = 64 } do io(ev.text) end.  Each event has the text
---it adds; the last has done = "eog", "length", "stop", "cancelled", "context" or "error" (then
---error tells which).  Leaving the loop ends the generation.
---@param options? perigee.generate.options
---@return perigee.sys.engine.stream stream   callable; stream:cancel() ends it
---@return nil
---@return nil
---@return perigee.sys.engine.stream closing
function Session:generate(options)
  local stream, err = session_of(self).inner:generate(generate_options(options))
  if not stream then error(err, 2) end
  return stream, nil, nil, stream
end

---Feed a prompt and return the whole text that follows.
---@param prompt string|integer[]|perigee.segment[]
---@param options? perigee.generate.options
---@return string?
---@return { done: string, n: integer, stop?: string }|perigee.error|nil info   an error after nil
---@async
function Session:complete(prompt, options)
  local ok, err = self:feed(prompt)
  if not ok then return nil, err end
  local parts, n, last = {}, 0, nil
  for ev in self:generate(options) do
    parts[#parts + 1] = ev.text
    if ev.done then last = ev else n = n + 1 end
  end
  if last.error then return nil, last.error end
  return table.concat(parts), { done = last.done, n = n, stop = last.stop }
end

---A session that goes on from here on its own; nothing is copied until the two differ.
---@return perigee.session?
---@return perigee.error? err
---@async
function Session:fork()
  local session = session_of(self)
  local inner, err = session.inner:fork()
  if not inner then return nil, err end
  return wrap_session(inner, session.model)
end

---Remember this position.
---@return perigee.mark?
---@return perigee.error? err
---@async
function Session:mark()
  return session_of(self).inner:mark()
end

---Forget all that came after a mark, or all but the first n tokens.
---@param to perigee.mark|integer
---@return boolean?
---@return perigee.error? err
---@async
function Session:rewind(to)
  return session_of(self).inner:rewind(to)
end

---Write the session to a file.
---@param path string   in a folder the script may write
---@return boolean?
---@return perigee.error? err
---@async
function Session:save(path)
  local session = session_of(self)
  local allowed, why = engine.locate(path, "write")
  if not allowed then return nil, why end
  return session.inner:save(allowed)
end

---Change sampling parameters from the next token on.
---@param params perigee.sampling
---@return boolean?
---@return perigee.error? err
---@async
function Session:set(params)
  return session_of(self).inner:sampling(prepared(params))
end

---The tokens held.
---@return integer[]?
---@return perigee.error? err
---@async
function Session:tokens()
  return session_of(self).inner:tokens()
end

---How many tokens are held.
---@return integer?
---@return perigee.error? err
---@async
function Session:n_tok()
  return session_of(self).inner:n_tok()
end

---Counters: n_tok, n_prompt, n_generated, n_cached, prompt_ns, generate_ns, ...
---@return table<string, integer>?
---@return perigee.error? err
---@async
function Session:stats()
  return session_of(self).inner:stats()
end

---Token ids of text, as the session's model sees it.
---@param text string|perigee.segment[]
---@param options? perigee.tokenize.options
---@return integer[]
function Session:tokenize(text, options)
  local proxy = setmetatable({}, Model)
  PRIVATE[proxy] = session_of(self).model
  return proxy:tokenize(text, options)
end

---End the session; what it generates is cancelled.
function Session:close()
  session_of(self).inner:close()
end
Session.__close = Session.close

return M
