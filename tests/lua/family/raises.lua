local t = nil
return { from = t.x }
