-- SPDX-License-Identifier: MIT
-- <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f
-- ```json
-- {...}
-- ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>
-- Spoken by DeepSeek V3, R1 and its distilled models.
return {
  name = "deepseek_r1",
  shows = { { "<｜tool▁call▁begin｜>", "```json" } },
  thinking = { open = "<think>", close = "</think>" },
  section = { open = "<｜tool▁calls▁begin｜>", close = "<｜tool▁calls▁end｜>" },
  call = {
    syntax = "named", is_loose = true, open = "<｜tool▁call▁begin｜>", close = "<｜tool▁call▁end｜>",
    kind_separator = "<｜tool▁sep｜>", separator = "```json", tail = "```",
  },
}
