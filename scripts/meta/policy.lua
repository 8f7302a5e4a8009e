---@meta perigee.policy
-- SPDX-License-Identifier: MIT
-- What a sampling policy is and is handed; see README.md, "Writing a sampling policy".  The file
-- returns a perigee.policy.chunk, or the function choose alone.

---@alias perigee.policy.choose fun(c: perigee.candidates, state: table, settings: table)

---What the file of a policy returns, unless it returns the function choose alone.
---@class perigee.policy.chunk: { [string]: function }
---@field choose perigee.policy.choose   called for each token; returns nothing
---@field settings? table   names and defaults; read-only in choose
---@field state? table      plain data that a session begins with, 4 KiB at most; {} if nil

---The candidates that are left, 1 to #c, likeliest first.  There only while choose runs.
---@class perigee.candidates
---@operator len: integer
local candidates = {}

---@param i integer
---@return integer   token id
function candidates:id(i) end

---@param i integer
---@return number   logit; -math.huge: banned
function candidates:logit(i) end

---@param i integer
---@return number   probability among those left, of the logits as they are now
function candidates:p(i) end

---@param i integer
---@return string   the token's bytes; control tokens show their names
function candidates:text(i) end

---@param id integer
---@return string   the bytes of any token
function candidates:text_of(id) end

---@param id integer
---@return integer?   which candidate it is
function candidates:find(id) end

---@param i integer   1: the first token of the session, -1: the last
---@return integer?   its id
function candidates:token(i) end

---@return integer   tokens before the one to choose
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

---@return number   in [0, 1), a function of seed, stream, position and how often it was asked
function candidates:random() end

---@param i integer
---@return number?   its logit in the session beside; nil where there is none
function candidates:other(i) end

return candidates
