return test {
  ["does nothing, every time"] = function(t)
    for _ = 1, 3 do t.equal(t.run(), json.null) end
    t.equal(#t.logs(), 0)
  end,
}
