local hour = 3600000

local function slot(id, st, starts_at, reserved_until)
  sql.exec("business", [[insert into number_source (id, org_id, department, doctor, clinic_date, slot, starts_at, state,
                           reserved_by, reserved_at, reserved_until, updated_at)
                         values (?, 1, 'Cardiology', 'D1', '2026-11-20', '09:00-09:30', ?, ?, ?, 0, ?, 0)]],
    id, starts_at, st, st == "reserved" and "P" .. id or nil, reserved_until)
end

local function get(id) return sql.query("business", "select * from number_source where id = ?", id)[1] end

return test {
  ["a lapsed reservation ahead can be booked again, one behind is withdrawn"] = function(t)
    local now = time.now()
    slot(1, "reserved", now + hour, now - 1000)
    slot(2, "reserved", now - hour, now - 2 * hour)
    slot(3, "reserved", now + hour, now + hour)
    slot(4, "used", now - hour, now - hour)
    t.equal(t.run(), { freed = 1, withdrawn = 1, more = false })
    t.equal({ get(1).state, get(1).recycle_count }, { "free", 1 })
    t.equal(get(1).reserved_by, nil)
    t.equal(get(2).state, "recycled")
    t.equal(get(3).state, "reserved")
    t.equal(get(4).state, "used")
    local c = sql.query("business", "select * from number_source_change order by number_source_id")
    t.equal({ #c, c[1].reserved_by, c[1].to_state, c[2].to_state }, { 2, "P1", "free", "recycled" })
  end,

  ["grace is given before a reservation lapses"] = function(t)
    slot(1, "reserved", time.now() + hour, time.now() - 60000)
    t.equal(t.run({ grace_minutes = 5 }).freed, 0)
    t.equal(t.run({ grace_minutes = 0 }).freed, 1)
  end,

  ["a batch larger than one transaction is worked off, the rest is left for the next run"] = function(t)
    for id = 1, 260 do slot(id, "reserved", time.now() + hour, 1) end
    t.equal(t.run({ batch = 250 }), { freed = 250, withdrawn = 0, more = true })
    t.equal(t.run({ batch = 250 }), { freed = 10, withdrawn = 0, more = false })
    t.equal(t.run({ batch = 250 }), { freed = 0, withdrawn = 0, more = false })
  end,
}
