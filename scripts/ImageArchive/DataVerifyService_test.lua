local function exam(id, images, updated_at)
  sql.exec("business", [[insert into observation_request (id, org_id, accession_no, patient_id, modality, image_count,
                           examined_at, updated_at) values (?, 1, ?, ?, 'CT', ?, 0, ?)]],
    id, "A" .. id, "P" .. id, images, updated_at or 0)
end

local function check(id, images, more)
  more = more or {}
  sql.exec("business", [[insert into exam_check_data (observation_request_id, accession_no, patient_id, modality,
                           image_count, updated_at) values (?, ?, ?, ?, ?, 0)]],
    id, "A" .. id, more.patient or "P" .. id, more.modality or "CT", images)
end

local function issues(id)
  return sql.query("business", "select * from data_verify_issue where observation_request_id = ? order by field", id)
end

return test {
  ["equal data opens nothing, differing fields and missing data open an issue each"] = function(t)
    exam(1, 10) check(1, 10)
    exam(2, 10) check(2, 9, { patient = "Q2" })
    exam(3, 10)
    t.equal(t.run(), { verified = 3, differing = 2, opened = 3, resolved = 0 })
    t.equal(#issues(1), 0)
    local two = issues(2)
    t.equal({ two[1].field, two[1].expected, two[1].actual }, { "image_count", "10", "9" })
    t.equal({ two[2].field, two[2].expected, two[2].actual }, { "patient_id", "P2", "Q2" })
    t.equal(issues(3)[1].field, "missing")
  end,

  ["an issue is closed when the data agrees again, and reopened when it does not"] = function(t)
    exam(1, 10) check(1, 9)
    t.run()
    sql.exec("business", "update exam_check_data set image_count = 10 where observation_request_id = 1")
    t.equal(t.run(), { verified = 1, differing = 0, opened = 0, resolved = 1 })
    t.ok(issues(1)[1].resolved_at)
    t.equal(t.run().verified, 0, "nothing is due")
    sql.exec("business", "update exam_check_data set image_count = 8, updated_at = ? where observation_request_id = 1",
      time.now() + 1000)
    t.equal(t.run().opened, 1)
    t.equal(issues(1)[1].resolved_at, nil)
    t.equal(#issues(1), 1)
  end,

  ["an examination that has just changed is left to settle"] = function(t)
    exam(1, 10, time.now() - 60000)
    t.equal(t.run().verified, 0)
    t.equal(t.run({ settle_minutes = 0 }).verified, 1)
  end,

  ["a batch bounds one run"] = function(t)
    for id = 1, 230 do exam(id, 1) check(id, 1) end
    t.equal(t.run({ batch = 150 }).verified, 150)
    t.equal(t.run({ batch = 150 }).verified, 80)
    t.equal(t.run({ batch = 150 }).verified, 0)
  end,
}
