-- SPDX-License-Identifier: MIT
-- <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{...}<｜tool▁call▁end｜><｜tool▁calls▁end｜>
-- Spoken by DeepSeek V3.1.
return {
  name = "deepseek_v31",
  shows = { { "<｜tool▁call▁begin｜>" } },
  thinking = { open = "<think>", close = "</think>" },
  section = { open = "<｜tool▁calls▁begin｜>", close = "<｜tool▁calls▁end｜>" },
  call = {
    syntax = "named", is_loose = true, open = "<｜tool▁call▁begin｜>", close = "<｜tool▁call▁end｜>",
    separator = "<｜tool▁sep｜>",
  },
}
