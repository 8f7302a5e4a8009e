-- SPDX-License-Identifier: MIT
-- <start_function_call>call:f{k:<escape>v<escape>}<end_function_call>
-- Spoken by FunctionGemma.
return {
  name = "functiongemma",
  shows = { { "<start_function_call>" } },
  call = {
    syntax = "gemma", open = "<start_function_call>", close = "<end_function_call>",
    quote = "<escape>",
  },
}
