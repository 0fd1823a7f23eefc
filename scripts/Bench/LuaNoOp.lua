-- Does nothing: what is left is the cost of a run. `gnomon bench` runs it.
return task {
  title = { zh = "空操作（Lua）", en = "No operation (Lua)" },
  description = { zh = "什么也不做，用于测量一次运行的开销。", en = "Does nothing, to measure what a run costs." },
  run = function(ctx)
  end,
}
