-- Marks documents that are older than their organisation keeps them; at most 100 a run, the oldest first. It deletes
-- nothing: ImageArchive.DocumentDeletionService removes what is marked. An organisation without an enabled policy keeps
-- everything.

local most = 100

return task {
  title = {
    zh = "存储删除服务：根据机构配置内容，将文档打标记为删除，每次执行100条",
    en = "Mark documents for deletion by the organisation's policy, 100 a run",
  },
  description = {
    zh = "按机构的保留天数把过期文档标记为待删除，并保留变更记录。",
    en = "Marks documents older than their organisation's policy keeps them; keeps a change record.",
  },
  params = {
    limit = { type = "integer", default = most, minimum = 1, maximum = most,
      description = { zh = "每次最多标记条数", en = "most documents marked in one run" } },
  },
  needs = { "sql:business" },
  timeout = "60s",
  output = { marked = { type = "integer" }, bytes = { type = "integer" }, more = { type = "boolean" } },
  run = function(ctx)
    local now = time.now()
    local limit = ctx.params.limit
    local marked, bytes, by_org, sample, more = 0, 0, {}, {}, false

    sql.tx("business", function(tx)
      local due = tx.query([[
        select d.id, d.org_id, d.path, d.size_bytes, p.keep_days
        from document d join org_storage_policy p on p.org_id = d.org_id and p.enabled = 1
        where d.state = 'stored' and d.created_at < cast(? as bigint) - cast(p.keep_days as bigint) * 86400000
        order by d.created_at, d.id limit ?]], now, limit + 1)
      more = #due > limit
      for i = 1, math.min(#due, limit) do
        local d = due[i]
        local r = tx.exec("update document set state = 'marked', marked_at = ? where id = ? and state = 'stored'", now, d.id)
        if r.affected == 1 then
          tx.exec([[insert into document_change (document_id, at, change, path, size_bytes, reason, run_id)
                    values (?, ?, 'marked', ?, ?, ?, ?)]],
            d.id, now, d.path, d.size_bytes, "policy: keep " .. d.keep_days .. " days", ctx.run_id)
          marked, bytes = marked + 1, bytes + d.size_bytes
          by_org[tostring(d.org_id)] = (by_org[tostring(d.org_id)] or 0) + 1
          if #sample < 5 then sample[#sample + 1] = d.id end
        end
      end
    end)
    ctx.progress(marked, marked)

    log.info("documents marked for deletion", {
      marked = marked, bytes = bytes, by_org = by_org, first_ids = table.concat(sample, ", "), more = more,
    })
    return { marked = marked, bytes = bytes, more = more }
  end,
}
