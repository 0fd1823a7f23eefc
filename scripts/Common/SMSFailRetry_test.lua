local gateway = { gateway_url = "http://sms.example/send" }

local function sms(id, state, attempts, next_try_at)
  sql.exec("business", [[insert into sms_outbox (id, phone, text, state, attempts, next_try_at, created_at, updated_at)
                         values (?, ?, 'hello', ?, ?, ?, 0, 0)]], id, "1380000" .. (1000 + id), state, attempts, next_try_at)
end

local function get(id) return sql.query("business", "select * from sms_outbox where id = ?", id)[1] end

return test {
  ["failed messages are sent once, with an idempotency key; others are left alone"] = function(t)
    sms(1, "failed", 1)
    sms(2, "failed", 2, time.now() - 1)
    sms(3, "failed", 1, time.now() + 60000)
    sms(4, "sent", 1)
    sms(5, "pending", 0)
    local asked = {}
    t.answer(function(r)
      asked[#asked + 1] = { r.method, r.url, r.headers["idempotency-key"], json.decode(r.body) }
      return { status = 202 }
    end)
    t.equal(t.run(gateway), { sent = 2, refused = 0, given_up = 0 })
    t.equal(asked[1], { "POST", "http://sms.example/send", "sms-1", { id = 1, phone = "13800001001", text = "hello" } })
    t.equal(#asked, 2)
    t.equal({ get(1).state, get(1).attempts, get(2).state, get(2).attempts }, { "sent", 2, "sent", 3 })
    t.ok(get(1).sent_at > 0)
    t.equal({ get(3).state, get(4).state, get(5).state }, { "failed", "sent", "pending" })
    t.equal(t.run(gateway).sent, 0)
  end,

  ["a refused message waits longer each time and is given up in the end"] = function(t)
    sms(1, "failed", 2)
    sms(2, "failed", 4)
    t.answer(function() return { status = 400, body = "bad number" } end)
    local now = time.now()
    t.equal(t.run(gateway), { sent = 0, refused = 1, given_up = 1 })
    t.equal({ get(1).state, get(1).attempts, get(1).last_error }, { "failed", 3, "gateway answered 400: bad number" })
    t.ok(get(1).next_try_at >= now + 240000 and get(1).next_try_at < now + 300000, "third attempt failed: four times the wait")
    t.equal({ get(2).state, get(2).attempts }, { "dead", 5 })
    t.equal(get(2).next_try_at, nil)
  end,

  ["a gateway that is down or busy costs no message an attempt, and the run asks to come back later"] = function(t)
    sms(1, "failed", 1)
    t.answer(function() return nil end)
    local f = t.fails(gateway)
    t.ok(f.message:find("SMS gateway not available"), f.message)
    t.equal(f.retry_after, 60000)
    t.answer(function() return { status = 429, headers = { ["Retry-After"] = "90" } } end)
    t.equal(t.fails(gateway).retry_after, 90000)
    t.equal({ get(1).state, get(1).attempts }, { "failed", 1 })
  end,

  ["no phone number is logged"] = function(t)
    sms(1, "failed", 4)
    t.answer(function() return { status = 400 } end)
    t.run(gateway)
    for _, line in ipairs(t.logs()) do t.ok(not line:find("13800001001"), line) end
  end,

  ["the gateway's address is needed"] = function(t)
    t.ok(t.fails({}).message:find("gateway_url"))
    t.ok(t.fails({ gateway_url = "file:///etc/passwd" }).message:find("gateway_url"))
  end,
}
