-- SPDX-License-Identifier: MIT
-- The model that comes with Perigee, and a plain word about it.  The assistants here build on it so
-- that they run at once; -m FILE puts a real model in its place.
return {
  name = "demo",
  description = "the bundled toy model",
  from = "perigee-demo",
  on_request = function(_, ctx)
    if ctx.state.was_told or not ctx.model.path:find("perigee%-demo%.gguf$") then return end
    ctx.state.was_told = true
    ctx:warn("the bundled demo model is a toy and knows little; -m FILE runs this assistant on a "
      .. "model of yours")
  end,
}
