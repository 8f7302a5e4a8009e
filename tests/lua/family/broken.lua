return { from = "base.lua"
  system = "x" }
