-- SPDX-License-Identifier: MIT
-- An assistant is a table.  perigee run examples/04_assistant.lua "What is your name?"
return {
  from = "demo-model/perigee-demo.gguf", -- beside this file
  system = "You are Ada, a helpful assistant.",
  parameters = { temp = 0 },
}
