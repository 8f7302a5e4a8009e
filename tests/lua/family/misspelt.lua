return {
  from = "base.lua",
  parameters = {
    temprature = 1,
  },
}
