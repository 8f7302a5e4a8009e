-- SPDX-License-Identifier: MIT
-- [f(a="x", b=1), g()] as the whole reply, or between <|python_start|> and <|python_end|>.
-- Spoken by Llama 4, and by Llama 3.2 when it is told to.
return {
  name = "pythonic",
  shows = { { "<|python_start|>" } },
  call = {
    syntax = "python", open = "<|python_start|>", close = "<|python_end|>", bare = "[",
    name = "name", arguments = "parameters",
  },
}
