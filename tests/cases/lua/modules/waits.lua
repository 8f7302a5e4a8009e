-- SPDX-License-Identifier: MIT
local wait = require("waits_shared").wait
local value = wait("please")
return { value = value }
