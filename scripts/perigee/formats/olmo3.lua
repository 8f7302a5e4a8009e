-- SPDX-License-Identifier: MIT
-- <function_calls>f(a="x")
-- g()</function_calls>
-- Spoken by OLMo 3.
return {
  name = "olmo3",
  shows = { { "<function_calls>" } },
  thinking = { open = "<think>", close = "</think>" },
  call = { syntax = "python", open = "<function_calls>", close = "</function_calls>" },
}
