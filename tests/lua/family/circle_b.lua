return { from = "circle_a.lua" }
