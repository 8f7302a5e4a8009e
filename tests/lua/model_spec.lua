-- SPDX-License-Identifier: MIT
-- The objects of perigee.model on a model that cannot be opened, and the mistakes of callers.
local lu = require "luaunit"
local perigee = require "perigee"

local T = {}

function T.test_a_missing_file_is_nil_and_an_error()
  local model, err = perigee.model("no such file.gguf")
  lu.assertNil(model)
  lu.assertEquals(err.code, "not_found")
  lu.assertStrContains(tostring(err), "no such file.gguf")
end

function T.test_unknown_options_name_the_nearest()
  lu.assertErrorMsgContains('did you mean "device"?', perigee.model, "x.gguf", { devise = "cpu" })
  lu.assertErrorMsgContains("model_spec.lua:", perigee.model, "x.gguf", { devise = "cpu" })
end

function T.test_the_root_has_what_scripts_need()
  for _, name in ipairs { "model", "spawn", "sleep", "all", "time", "date", "request" } do
    lu.assertIsFunction(perigee[name], name)
  end
  lu.assertIsTable(perigee.json)
  lu.assertIsTable(perigee.fs)
  lu.assertTrue(perigee.time() > 1e9)
  lu.assertNil(perigee.nothing_of_that_name)
end

function T.test_the_root_is_read_only()
  lu.assertError(function() perigee.model = nil end)
end

return T
