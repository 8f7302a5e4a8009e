-- SPDX-License-Identifier: MIT
local perigee = require "perigee"
return { from = perigee.fake.model {}, on_request = function() return "by rule" end }
