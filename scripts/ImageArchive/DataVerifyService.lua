-- Compares examinations (observation_request) with what the archive received (exam_check_data). A difference opens or
-- refreshes a row in data_verify_issue; equality closes it. An examination is due when it was never compared, when it or
-- its check data changed since, and, while it has an open issue, in every run.

local fields = { "accession_no", "patient_id", "modality", "image_count" }

return task {
  title = {
    zh = "数据校验服务：校验检查表（ObservationRequest）和校验信息表（ExamCheckData）数据一致性",
    en = "Verify that examinations and the archive's check data agree",
  },
  description = {
    zh = "逐条比对检查表与校验信息表，记录不一致的字段，恢复一致后自动关闭。",
    en = "Compares each examination with its check data, records fields that differ, closes them once they agree.",
  },
  params = {
    batch = { type = "integer", default = 1000, minimum = 1, maximum = 20000,
      description = { zh = "每次最多校验条数", en = "most examinations compared in one run" } },
    settle_minutes = { type = "integer", default = 5, minimum = 0, maximum = 1440,
      description = { zh = "检查更新后等待多少分钟再校验", en = "minutes to leave the archive before an examination is compared" } },
  },
  needs = { "sql:business" },
  timeout = "5m",
  output = {
    verified = { type = "integer" }, differing = { type = "integer" }, opened = { type = "integer" },
    resolved = { type = "integer" },
  },
  run = function(ctx)
    local now = time.now()
    local settled = now - ctx.params.settle_minutes * 60000
    local due = sql.query("business", [[
      select o.id, o.accession_no, o.patient_id, o.modality, o.image_count,
             c.observation_request_id as checked_id, c.accession_no as c_accession_no, c.patient_id as c_patient_id,
             c.modality as c_modality, c.image_count as c_image_count
      from observation_request o
      left join exam_check_data c on c.observation_request_id = o.id
      where o.updated_at <= ?
        and (o.verified_at is null or o.verified_at < o.updated_at or o.verified_at < c.updated_at
             or exists (select 1 from data_verify_issue i where i.observation_request_id = o.id and i.resolved_at is null))
      order by coalesce(o.verified_at, 0), o.id limit ?]], settled, ctx.params.batch)

    local verified, differing, opened, resolved, sample = 0, 0, 0, 0, {}

    local function compare(tx, exam)
      local wrong = {}
      if exam.checked_id == nil then
        wrong.missing = {}
      else
        for _, f in ipairs(fields) do
          if exam[f] ~= exam["c_" .. f] then
            wrong[f] = { expected = tostring(exam[f]), actual = tostring(exam["c_" .. f]) }
          end
        end
      end
      local known = {}
      for _, issue in ipairs(tx.query(
        "select field, resolved_at from data_verify_issue where observation_request_id = ?", exam.id)) do
        known[issue.field] = issue
      end
      for field, values in pairs(wrong) do
        if known[field] then
          if known[field].resolved_at ~= nil then opened = opened + 1 end
          tx.exec([[update data_verify_issue set expected = ?, actual = ?, last_seen_at = ?, resolved_at = null, run_id = ?
                    where observation_request_id = ? and field = ?]],
            values.expected, values.actual, now, ctx.run_id, exam.id, field)
        else
          opened = opened + 1
          tx.exec([[insert into data_verify_issue
                      (observation_request_id, field, expected, actual, first_seen_at, last_seen_at, run_id)
                    values (?, ?, ?, ?, ?, ?, ?)]],
            exam.id, field, values.expected, values.actual, now, now, ctx.run_id)
        end
      end
      for field, issue in pairs(known) do
        if not wrong[field] and issue.resolved_at == nil then
          resolved = resolved + 1
          tx.exec([[update data_verify_issue set resolved_at = ?, run_id = ?
                    where observation_request_id = ? and field = ?]], now, ctx.run_id, exam.id, field)
        end
      end
      if next(wrong) ~= nil then
        differing = differing + 1
        if #sample < 5 then sample[#sample + 1] = exam.id end
      end
      tx.exec("update observation_request set verified_at = ? where id = ?", now, exam.id)
      verified = verified + 1
    end

    for from = 1, #due, 100 do -- transactions of 100: a long one would keep everybody else from writing
      sql.tx("business", function(tx)
        for i = from, math.min(from + 99, #due) do compare(tx, due[i]) end
      end)
      ctx.progress(math.min(from + 99, #due), #due)
    end

    local level = differing > 0 and log.warn or log.info
    level("examinations verified", {
      verified = verified, differing = differing, opened = opened, resolved = resolved, first_ids = table.concat(sample, ", "),
    })
    return { verified = verified, differing = differing, opened = opened, resolved = resolved }
  end,
}
