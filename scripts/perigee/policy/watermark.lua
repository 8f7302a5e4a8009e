-- SPDX-License-Identifier: MIT
-- A watermark: before each token a key and the token before it split the vocabulary in two, and the
-- green part is made likelier.  Who knows the key counts green tokens: of a text that was not
-- marked, `share` of them are.  Source: Kirchenbauer et al. 2023, "A watermark for large language
-- models".
--   sampler = { { "top_k", 40 }, { policy = "watermark", key = 42 }, "temperature" }
--   local watermark = require "perigee.policy.watermark"
--   local found = watermark.detect(session:tokens(), { key = 42 })   -- found.z > 4: marked

-- 64 bits that depend on all bits of x.  Source: the finalizer of SplitMix64, Steele et al. 2014.
local function mix(x)
  x = (x ~ x >> 30) * 0xBF58476D1CE4E5B9
  x = (x ~ x >> 27) * 0x94D049BB133111EB
  return x ~ x >> 31
end

-- Is the token green behind the one before it?
local function is_green(key, before, id, share)
  local x = mix(mix(key + 0x632BE59BD9B4E019) + (before << 32 | id))
  return (x >> 11) * 0x1p-53 < share
end

local SHARE <const> = 0.5

---Count the green tokens of a text.
---@param ids integer[]
---@param options { key: integer, share?: number, from?: integer }   from: the first id to count
---@return { n: integer, green: integer, z: number }   z: standard deviations above chance
local function detect(ids, options)
  local share, n, green = options.share or SHARE, 0, 0
  local seen = {}
  for i = math.max(options.from or 2, 2), #ids do
    local pair = ids[i - 1] << 32 | ids[i]
    if not seen[pair] then -- the same two again tell nothing new
      seen[pair] = true
      n = n + 1
      if is_green(options.key, ids[i - 1], ids[i], share) then green = green + 1 end
    end
  end
  local spread = math.sqrt(n * share * (1 - share))
  return { n = n, green = green, z = spread > 0 and (green - share * n) / spread or 0.0 }
end

return {
  settings = {
    key = 0,       -- whoever knows it can tell
    boost = 2.0,   -- added to the logits of green tokens
    share = SHARE, -- of the vocabulary that is green
  },
  choose = function(c, _, settings)
    local before = c:token(-1)
    if not before then return end
    for i = 1, #c do
      if is_green(settings.key, before, c:id(i), settings.share) then
        c:set(i, c:logit(i) + settings.boost)
      end
    end
  end,
  detect = detect,
}
