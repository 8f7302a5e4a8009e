return {
  name = "x",
  from = "missing.lua",
}
