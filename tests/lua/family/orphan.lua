-- SPDX-License-Identifier: MIT
return {
  name = "x",
  from = "missing.lua",
}
