-- SPDX-License-Identifier: MIT
-- Contrast with a second session: what it finds likely as well is made less likely here, so what
-- stays is what this session has more of: the document it was given, the persona it was asked for.
-- Sources: Li et al. 2022, "Contrastive decoding"; Shi et al. 2023, "Trusting your evidence".
--   for ev in session:generate { beside = plain } do ... end
-- with sampler = { { policy = "contrastive", alpha = 0.5 }, { "top_k", 40 }, "temperature" }.
-- Without a session beside it, it is an error: nothing would be contrasted.
return {
  settings = {
    alpha = 0.5, -- how much: 0 nothing, 1 as much as there is
    keep = 0.1,  -- drop candidates less likely than this times the likeliest, whatever the contrast
  },
  choose = function(c, _, settings)
    if not c:other(1) then
      error("contrastive needs a second session: session:generate { beside = other }")
    end
    local least, n = settings.keep * c:p(1), 1
    while n < #c and c:p(n + 1) >= least do n = n + 1 end
    c:keep(n)
    for i = 1, n do
      c:set(i, (1 + settings.alpha) * c:logit(i) - settings.alpha * c:other(i))
    end
  end,
}
