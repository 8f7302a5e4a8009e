return {
  system = "a",
  from = "circle_b.lua",
}
