-- SPDX-License-Identifier: MIT
return { from = "base.lua"
  system = "x" }
