-- SPDX-License-Identifier: MIT
-- <｜DSML｜function_calls>
-- <｜DSML｜invoke name="f">
-- <｜DSML｜parameter name="k" string="true">v</｜DSML｜parameter>
-- </｜DSML｜invoke>
-- </｜DSML｜function_calls>
-- Spoken by DeepSeek V3.2; V4 frames its calls as tool_calls.  string="false" is JSON.
return {
  name = "deepseek_v32",
  shows = { { "｜DSML｜" } },
  thinking = { open = "<think>", close = "</think>" },
  skip = { "<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "<｜DSML｜tool_calls>",
    "</｜DSML｜tool_calls>" },
  call = {
    syntax = "tags", open = '<｜DSML｜invoke name="', close = "</｜DSML｜invoke>", name_close = '">',
    key = { open = '<｜DSML｜parameter name="', close = '"' },
    value = { open = ">", close = "</｜DSML｜parameter>" },
  },
}
