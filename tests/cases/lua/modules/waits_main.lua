-- SPDX-License-Identifier: MIT
local shared = require "waits_shared"
shared.wait = ...
local late = require "waits"
print(late.value, require "waits" == late)
