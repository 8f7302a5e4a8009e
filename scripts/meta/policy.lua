---@meta perigee.policy
-- SPDX-License-Identifier: MIT
-- What a sampling policy is and is handed; see README.md, "Writing a sampling policy".  The file
-- returns a perigee.policy.chunk, or the function choose alone.

---@alias perigee.policy.choose fun(c: perigee.candidates, state: table, settings: table)

---What the file of a policy returns.
---@class perigee.policy.chunk: { [string]: function }
---@field choose perigee.policy.choose   called for each token; returns nothing
---@field settings? table   names and defaults; read-only in choose
---@field state? table      plain data that a session begins with, 4 KiB at most; {} if nil
local policy = {}

---The candidates that are left, 1 to #c, likeliest first.  There only while choose runs.
---@class perigee.candidates
---@operator len: integer
local candidates = {}

---The token id of a candidate.
---@param i integer
---@return integer
function candidates:id(i) end

---Its logit; -math.huge: banned.
---@param i integer
---@return number
function candidates:logit(i) end

---Its probability among those left, of the logits as they are now.
---@param i integer
---@return number
function candidates:p(i) end

---The bytes of its token; control tokens show their names.
---@param i integer
---@return string
function candidates:text(i) end

---The bytes of any token.
---@param id integer
---@return string
function candidates:text_of(id) end

---Which candidate a token is, if it is one.
---@param id integer
---@return integer?
function candidates:find(id) end

---A token of the session: 1 the first, -1 the last; nil beyond.
---@param i integer
---@return integer? id
function candidates:token(i) end

---How many tokens there are before the one to choose.
---@return integer
function candidates:position() end

---Give it another logit.  The order stays; c:sort() makes a new one.
---@param i integer
---@param logit number   a number, or -math.huge
function candidates:set(i, logit) end

---Never this one.
---@param i integer
function candidates:ban(i) end

---This one and no other.  Once a call.
---@param i integer
function candidates:pick(i) end

---Only the first n.
---@param n integer
function candidates:keep(n) end

---Likeliest first; of equal logits the lower id.
function candidates:sort() end

---In [0, 1): a function of seed, stream, position and how often it was asked there.
---@return number
function candidates:random() end

---Its logit in the session beside; nil where there is none.
---@param i integer
---@return number?
function candidates:other(i) end

return policy
