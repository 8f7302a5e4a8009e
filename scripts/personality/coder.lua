-- SPDX-License-Identifier: MIT
-- A programmer's helper.  Lua code in a reply is compiled (not run); what does not compile goes
-- back to the model with the error, before you see it.
--   perigee run coder -m model.gguf "A Lua function that reverses a list"
return {
  name = "coder",
  description = "writes code; Lua in its replies compiles",
  from = "demo",
  system = [[
You are an experienced programmer. Answer with working code in a fenced block that names its
language, then one or two sentences on what is not obvious. Do not repeat the question. If something
needed is not known, say what you assumed.]],
  parameters = { temp = 0.2 },
  on_message = function(message)
    for code in message.content:gmatch "```lua%s-\n(.-)\n```" do
      local ok, err = load(code, "=code")
      if not ok then
        return false, "The Lua code does not compile: " .. err .. ". Write all of it again."
      end
    end
  end,
}
