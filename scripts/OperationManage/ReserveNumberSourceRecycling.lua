-- Appointment slots whose reservation was not confirmed in time. A slot that still lies ahead can be booked again
-- (free); one whose time has passed is taken out (recycled). number_source_change keeps whose reservation it was.

return task {
  title = { zh = "预约号源回收任务", en = "Recycle lapsed appointment slots" },
  description = {
    zh = "回收超过保留时间仍未确认的预约号源：未到就诊时间的重新放号，已过的作废，并保留变更记录。",
    en = "Takes back appointment slots whose reservation lapsed: future ones can be booked again, past ones are withdrawn; keeps a change record.",
  },
  params = {
    grace_minutes = { type = "integer", default = 0, minimum = 0, maximum = 1440,
      description = { zh = "保留时间之后再宽限多少分钟", en = "minutes of grace after a reservation's end" } },
    batch = { type = "integer", default = 1000, minimum = 1, maximum = 10000,
      description = { zh = "每次最多回收条数", en = "most slots taken back in one run" } },
  },
  needs = { "sql:business" },
  timeout = "60s",
  output = { freed = { type = "integer" }, withdrawn = { type = "integer" }, more = { type = "boolean" } },
  run = function(ctx)
    local now = time.now()
    local limit = now - ctx.params.grace_minutes * 60000
    local freed, withdrawn, sample, seen = 0, 0, {}, 0
    local total = sql.query("business",
      "select count(*) as n from number_source where state = 'reserved' and reserved_until < ?", limit)[1].n
    local todo = math.min(total, ctx.params.batch)

    -- Transactions of 100, so that booking never waits long for us.
    while seen < todo do
      local n = sql.tx("business", function(tx)
        local due = tx.query([[select id, reserved_by, starts_at from number_source
                               where state = 'reserved' and reserved_until < ?
                               order by reserved_until, id limit ?]], limit, math.min(100, todo - seen))
        for _, s in ipairs(due) do
          local to = s.starts_at > now and "free" or "recycled"
          local r = tx.exec([[update number_source
                              set state = ?, reserved_by = null, reserved_at = null, reserved_until = null,
                                  recycle_count = recycle_count + 1, updated_at = ?
                              where id = ? and state = 'reserved' and reserved_until < ?]], to, now, s.id, limit)
          if r.affected == 1 then
            tx.exec([[insert into number_source_change (number_source_id, at, from_state, to_state, reserved_by, run_id)
                      values (?, ?, 'reserved', ?, ?, ?)]], s.id, now, to, s.reserved_by, ctx.run_id)
            if to == "free" then freed = freed + 1 else withdrawn = withdrawn + 1 end
            if #sample < 5 then sample[#sample + 1] = s.id end
          end
        end
        return #due
      end)
      if n == 0 then break end
      seen = seen + n
      ctx.progress(seen, todo)
    end

    log.info("lapsed reservations recycled", {
      freed = freed, withdrawn = withdrawn, left = total - seen, first_ids = table.concat(sample, ", "),
    })
    return { freed = freed, withdrawn = withdrawn, more = total > seen }
  end,
}
