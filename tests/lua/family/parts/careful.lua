-- SPDX-License-Identifier: MIT
return {
  system = "Take care.", parameters = { top_k = 3 },
  tools = { { name = "h", run = function() return "h" end } },
  on_request = function(request) request.system = (request.system or "") .. " part" end,
}
