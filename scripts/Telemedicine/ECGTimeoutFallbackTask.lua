-- Three time limits of a remote ECG reading, each with its own way back:
--   claimed for too long          -> waiting: anybody may take it again
--   report not written in time    -> assigned to a doctor on duty in its service centre
--   assigned for too long         -> waiting, fallback_count + 1
-- Every change leaves a row in ecg_task_event. Each ECG changes in its own guarded update, so a second run finds
-- nothing left to do.

local function few(ids)
  local first = {}
  for i = 1, math.min(#ids, 5) do first[i] = ids[i] end
  return table.concat(first, ", ") .. (#ids > 5 and ", …" or "")
end

return task {
  title = { zh = "心电任务领取超时、书写超时指派、指派超时回退任务", en = "ECG time limits: claim, writing, assignment" },
  description = {
    zh = "领取超时退回待领取；书写超时指派给值班医生；指派超时退回待领取，并保留变更记录。",
    en = "Returns ECGs claimed for too long, assigns overdue reports to the doctor on duty, takes back stale assignments; keeps a change record.",
  },
  params = {
    claim_minutes = { type = "integer", default = 30, minimum = 1, maximum = 1440,
      description = { zh = "领取后多少分钟未开始书写即退回", en = "minutes a claim may last before writing begins" } },
    assign_minutes = { type = "integer", default = 60, minimum = 1, maximum = 1440,
      description = { zh = "指派后多少分钟未处理即回退", en = "minutes an assignment may last" } },
    batch = { type = "integer", default = 500, minimum = 1, maximum = 5000,
      description = { zh = "每种超时每次最多处理条数", en = "most ECGs changed per kind and run" } },
  },
  needs = { "sql:business" },
  timeout = "60s",
  output = {
    released = { type = "integer" }, assigned = { type = "integer" }, fallen_back = { type = "integer" },
    without_duty_doctor = { type = "integer" },
  },
  run = function(ctx)
    local now = time.now()
    local p = ctx.params

    local function record(tx, ecg, event, to_state, from_doctor, to_doctor)
      tx.exec([[insert into ecg_task_event
                  (ecg_task_id, at, event, from_state, to_state, from_doctor, to_doctor, run_id)
                values (?, ?, ?, ?, ?, ?, ?, ?)]],
        ecg.id, now, event, ecg.state, to_state, from_doctor, to_doctor, ctx.run_id)
    end

    local released = sql.tx("business", function(tx)
      local ids = {}
      local due = tx.query([[select id, state, claimed_by from ecg_task
                             where state = 'claimed' and claimed_at < ? order by id limit ?]],
        now - p.claim_minutes * 60000, p.batch)
      for _, ecg in ipairs(due) do
        local r = tx.exec([[update ecg_task set state = 'waiting', claimed_by = null, claimed_at = null, updated_at = ?
                            where id = ? and state = 'claimed']], now, ecg.id)
        if r.affected == 1 then
          record(tx, ecg, "claim_timeout", "waiting", ecg.claimed_by, nil)
          ids[#ids + 1] = ecg.id
        end
      end
      return ids
    end)
    ctx.progress(1, 3, "claims")

    -- Before the assignments are made, or a stale one would fall back only to be given out in the same run.
    local fallen_back = sql.tx("business", function(tx)
      local ids = {}
      local due = tx.query([[select id, state, assigned_to from ecg_task
                             where state = 'assigned' and assigned_at < ? order by id limit ?]],
        now - p.assign_minutes * 60000, p.batch)
      for _, ecg in ipairs(due) do
        local r = tx.exec([[update ecg_task
                            set state = 'waiting', assigned_to = null, assigned_at = null, claimed_by = null,
                                claimed_at = null, write_deadline = null, fallback_count = fallback_count + 1, updated_at = ?
                            where id = ? and state = 'assigned']], now, ecg.id)
        if r.affected == 1 then
          record(tx, ecg, "assign_timeout", "waiting", ecg.assigned_to, nil)
          ids[#ids + 1] = ecg.id
        end
      end
      return ids
    end)
    ctx.progress(2, 3, "assignments")

    local unassigned = {}
    local assigned = sql.tx("business", function(tx)
      local ids, duty, turn = {}, {}, {}
      for _, d in ipairs(tx.query("select service_center, doctor_id from duty_doctor where on_duty = 1 order by doctor_id")) do
        duty[d.service_center] = duty[d.service_center] or {}
        table.insert(duty[d.service_center], d.doctor_id)
      end
      local due = tx.query([[select id, state, service_center, claimed_by from ecg_task
                             where state = 'writing' and write_deadline < ? order by write_deadline, id limit ?]],
        now, p.batch)
      for _, ecg in ipairs(due) do
        local doctors = duty[ecg.service_center]
        if not doctors then
          unassigned[#unassigned + 1] = ecg.id
        else
          -- In turn, but not to the one who has just let it lie, if there is another.
          local n = turn[ecg.service_center] or 0
          local doctor = doctors[n % #doctors + 1]
          if doctor == ecg.claimed_by and #doctors > 1 then
            n = n + 1
            doctor = doctors[n % #doctors + 1]
          end
          turn[ecg.service_center] = n + 1
          local r = tx.exec([[update ecg_task set state = 'assigned', assigned_to = ?, assigned_at = ?, updated_at = ?
                              where id = ? and state = 'writing']], doctor, now, now, ecg.id)
          if r.affected == 1 then
            record(tx, ecg, "write_timeout", "assigned", ecg.claimed_by, doctor)
            ids[#ids + 1] = ecg.id
          end
        end
      end
      return ids
    end)
    ctx.progress(3, 3, "writing")

    if #unassigned > 0 then
      log.warn("no doctor on duty for overdue ECG reports", { count = #unassigned, ids = few(unassigned) })
    end
    log.info("ECG time limits applied", {
      released = #released, released_ids = few(released),
      fallen_back = #fallen_back, fallen_back_ids = few(fallen_back),
      assigned = #assigned, assigned_ids = few(assigned),
    })
    return {
      released = #released, assigned = #assigned, fallen_back = #fallen_back, without_duty_doctor = #unassigned,
    }
  end,
}
