-- SPDX-License-Identifier: MIT
return {
  name = "Base", from = "nowhere.gguf", system = "Be kind.",
  parameters = { temp = 0, max = 5 },
  messages = { { role = "user", content = "Hi" }, { role = "assistant", content = "Hello" } },
  tools = { { name = "f", description = "base", run = function() return "base" end } },
  capabilities = { fs = { read = { "a" } } },
  on_request = function(request) request.system = (request.system or "") .. " base" end,
}
