local minute = 60000

local function ecg(id, state, more)
  more = more or {}
  sql.exec("business", [[insert into ecg_task (id, patient_id, service_center, state, created_at, claimed_by, claimed_at,
                           write_deadline, assigned_to, assigned_at, updated_at)
                         values (?, ?, ?, ?, 0, ?, ?, ?, ?, ?, 0)]],
    id, "P" .. id, more.center or "C1", state, more.claimed_by, more.claimed_at, more.write_deadline,
    more.assigned_to, more.assigned_at)
end

local function state(id) return sql.query("business", "select * from ecg_task where id = ?", id)[1] end

local function on_duty(center, ...)
  for _, doctor in ipairs { ... } do
    sql.exec("business", "insert into duty_doctor (service_center, doctor_id) values (?, ?)", center, doctor)
  end
end

return test {
  ["a claim that is too old goes back to the pool, a young one stays"] = function(t)
    local now = time.now()
    ecg(1, "claimed", { claimed_by = "D1", claimed_at = now - 31 * minute })
    ecg(2, "claimed", { claimed_by = "D2", claimed_at = now - 29 * minute })
    t.equal(t.run(), { released = 1, assigned = 0, fallen_back = 0, without_duty_doctor = 0 })
    t.equal(state(1).state, "waiting")
    t.equal(state(1).claimed_by, nil)
    t.equal(state(2).state, "claimed")
    local e = sql.query("business", "select * from ecg_task_event")
    t.equal(#e, 1)
    t.equal({ e[1].event, e[1].from_state, e[1].to_state, e[1].from_doctor, e[1].run_id },
      { "claim_timeout", "claimed", "waiting", "D1", "test-run-1" })
  end,

  ["an overdue report goes to a doctor on duty in its centre, not to the one who let it lie"] = function(t)
    on_duty("C1", "A", "B")
    on_duty("C2", "Z")
    local late = time.now() - minute
    ecg(1, "writing", { claimed_by = "A", write_deadline = late })
    ecg(2, "writing", { claimed_by = "X", write_deadline = late, center = "C2" })
    ecg(3, "writing", { claimed_by = "X", write_deadline = time.now() + minute })
    t.equal(t.run(), { released = 0, assigned = 2, fallen_back = 0, without_duty_doctor = 0 })
    t.equal(state(1).assigned_to, "B")
    t.equal(state(2).assigned_to, "Z")
    t.equal(state(3).state, "writing")
  end,

  ["an overdue report without a doctor on duty stays and is reported"] = function(t)
    ecg(1, "writing", { claimed_by = "X", write_deadline = 1 })
    t.equal(t.run().without_duty_doctor, 1)
    t.equal(state(1).state, "writing")
    t.ok(t.logs()[1]:find("^warn no doctor on duty"), t.logs()[1])
  end,

  ["a stale assignment falls back to the pool and is counted, not given out again at once"] = function(t)
    on_duty("C1", "A")
    ecg(1, "assigned", { claimed_by = "X", write_deadline = 1, assigned_to = "A", assigned_at = time.now() - 61 * minute })
    t.equal(t.run(), { released = 0, assigned = 0, fallen_back = 1, without_duty_doctor = 0 })
    t.equal({ state(1).state, state(1).fallback_count }, { "waiting", 1 })
    t.equal(state(1).write_deadline, nil)
  end,

  ["a second run changes nothing"] = function(t)
    on_duty("C1", "A")
    ecg(1, "claimed", { claimed_by = "D", claimed_at = 1 })
    ecg(2, "writing", { claimed_by = "D", write_deadline = 1 })
    t.run()
    t.equal(t.run(), { released = 0, assigned = 0, fallen_back = 0, without_duty_doctor = 0 })
    t.equal(#sql.query("business", "select 1 from ecg_task_event"), 2)
  end,

  ["a batch bounds one run, the oldest first"] = function(t)
    for id = 1, 5 do ecg(id, "claimed", { claimed_by = "D", claimed_at = 1 }) end
    t.equal(t.run({ batch = 3 }).released, 3)
    t.equal(t.run({ batch = 3 }).released, 2)
  end,

  ["parameters out of range are refused"] = function(t)
    t.ok(t.fails({ claim_minutes = 0 }).message:find("claim_minutes"))
    t.ok(t.fails({ claim_minuts = 5 }).message:find("claim_minuts"))
  end,
}
