-- SPDX-License-Identifier: MIT
-- <function=f>{...}</function>
-- Spoken by Functionary 3.1, and by Llama 3 when it is told to.
return {
  name = "functionary",
  shows = { { "<function=", "</function>" } },
  call = { syntax = "named", open = "<function=", close = "</function>", separator = ">" },
}
