-- SPDX-License-Identifier: MIT
-- Asks the model several times and gives the answer that comes most often.  Each try is a fork of
-- this conversation: what was said before is held once, and each fork draws its own random numbers.
--   perigee run voter -m model.gguf "A bat and a ball cost 1.10 ..."
local TRIES <const> = 5

-- What counts as the same answer: the last line, without case, marks and spaces.
local function vote_of(text)
  local last = text:match "([^\n]*%w[^\n]*)%s*$" or text
  return (last:lower():gsub("^.-answer%s*:", ""):gsub("[^%w%.%-]", ""):gsub("%.$", ""))
end

return {
  name = "voter",
  description = "the answer that most of five tries agree on",
  from = "demo",
  system = 'Think step by step. End with one line "Answer: ..." that holds the bare answer.',
  parameters = { temp = 0.8 },
  on_request = function(_, ctx)
    local votes, best = {}, nil
    for _ = 1, TRIES do
      local fork <close> = assert(ctx:fork())
      local text = assert(fork:ask(ctx.question))
      local key = vote_of(text)
      local vote = votes[key] or { n = 0, text = text }
      vote.n, votes[key] = vote.n + 1, vote
      if not best or vote.n > best.n then best = vote end
    end
    ctx:warn(("%d of %d tries agree"):format(best.n, TRIES))
    return best.text
  end,
}
