-- SPDX-License-Identifier: MIT
-- functools[{"name": "f", "arguments": {...}}]
-- Spoken by Phi-4-mini and Firefunction.
return {
  name = "functools",
  shows = { { "functools[" } },
  call = {
    open = "functools[", close = false, prefix = "[", name = "name", arguments = "arguments",
  },
}
