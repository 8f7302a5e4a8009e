-- SPDX-License-Identifier: MIT
-- A temperature that follows the entropy: where the model is sure, it is made surer, and where many
-- tokens would do, it may wander.  Stands in the place of the temperature:
--   sampler = { { "top_k", 40 }, { policy = "entropy", low = 0.2, high = 1.2 } }
-- The entropy is smoothed over the text, so that one hard word does not turn the whole sentence.

-- Nats of the candidates' distribution.
local function entropy(c)
  local sum = 0
  for i = 1, #c do
    local p = c:p(i)
    if p > 0 then sum = sum - p * math.log(p) end
  end
  return sum
end

return {
  settings = {
    low = 0.2,    -- temperature where one token has it all
    high = 1.2,   -- temperature where all candidates are alike
    smooth = 0.5, -- how much of the entropy so far stays, from 0 to less than 1
  },
  state = { mean = -1.0 }, -- of the entropy's share of the largest possible; below 0: none yet
  choose = function(c, state, settings)
    if #c < 2 then return end
    local share = entropy(c) / math.log(#c)
    if state.mean >= 0 then
      share = settings.smooth * state.mean + (1 - settings.smooth) * share
    end
    state.mean = share
    local temp = settings.low + (settings.high - settings.low) * share
    if temp <= 0 then
      c:pick(1)
      return
    end
    for i = 1, #c do c:set(i, c:logit(i) / temp) end
  end,
}
