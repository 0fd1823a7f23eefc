local kit = { base_url = "http://factory.example", job = "daily_kit_check", input = { batch = "B7" } }

return test {
  ["the job is called once, with an idempotency key, and what it found is handed on"] = function(t)
    local asked
    t.answer(function(r)
      asked = { r.method, r.url, r.headers["idempotency-key"] ~= nil, json.decode(r.body).input }
      return { status = 200, body = [[{"found": 12, "handled": 9, "batch": "B7"}]] }
    end)
    t.equal(t.run(kit), { found = 12, handled = 9, batch = "B7" })
    t.equal(asked, { "POST", "http://factory.example/jobs/daily_kit_check", true, { batch = "B7" } })
  end,

  ["a busy system is asked again when it says so"] = function(t)
    t.answer(function() return { status = 503, headers = { ["Retry-After"] = "45" } } end)
    local f = t.fails(kit)
    t.equal(f.retry_after, 45000)
    t.ok(not f.permanent)
  end,

  ["a job that the system does not know is not tried again"] = function(t)
    t.answer(function() return { status = 404, body = "no such job" } end)
    local f = t.fails(kit)
    t.ok(f.permanent, f.message)
    t.ok(f.message:find("404") and f.message:find("no such job"), f.message)
  end,

  ["a job that runs already is tried again"] = function(t)
    t.answer(function() return { status = 409, body = "running" } end)
    t.ok(not t.fails(kit).permanent)
  end,

  ["a name that is no job's name is refused"] = function(t)
    t.ok(t.fails({ job = "../admin" }).message:find("job"))
  end,
}
