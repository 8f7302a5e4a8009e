-- SPDX-License-Identifier: MIT
-- <|tools_prefix|>[{"f": {...}}]<|tools_suffix|>: the name is the key.
-- Spoken by Apertus.
return {
  name = "apertus",
  shows = { { "<|tools_prefix|>" } },
  call = { open = "<|tools_prefix|>", close = "<|tools_suffix|>", name_is_key = true },
}
