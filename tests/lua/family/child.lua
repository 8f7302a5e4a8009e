-- SPDX-License-Identifier: MIT
return {
  from = "base.lua", -- beside this file
  parameters = { temperature = 1 },
  with = { "parts/careful.lua" },
  tools = { { name = "f", description = "child", run = function() return "child" end },
    { name = "g", run = function() return "g" end } },
  on_request = function(request) request.system = (request.system or "") .. " child" end,
}
