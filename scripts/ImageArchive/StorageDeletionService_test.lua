local day = 86400000

local function policy(org, days, enabled)
  sql.exec("business", "insert into org_storage_policy (org_id, keep_days, enabled) values (?, ?, ?)", org, days, enabled or 1)
end

local function document(id, org, age_days)
  sql.exec("business", "insert into document (id, org_id, path, size_bytes, created_at) values (?, ?, ?, 1000, ?)",
    id, org, "o" .. org .. "/" .. id .. ".dcm", time.now() - age_days * day)
end

local function state(id) return sql.query("business", "select state from document where id = ?", id)[1].state end

return test {
  ["documents older than their organisation keeps them are marked, and nothing else"] = function(t)
    policy(1, 30)
    policy(2, 365)
    policy(3, 1, 0)
    document(1, 1, 31)
    document(2, 1, 29)
    document(3, 2, 31)
    document(4, 3, 1000)
    document(5, 4, 1000)
    t.equal(t.run(), { marked = 1, bytes = 1000, more = false })
    t.equal({ state(1), state(2), state(3), state(4), state(5) }, { "marked", "stored", "stored", "stored", "stored" })
    local c = sql.query("business", "select * from document_change")
    t.equal({ #c, c[1].document_id, c[1].change, c[1].reason, c[1].path, c[1].run_id },
      { 1, 1, "marked", "policy: keep 30 days", "o1/1.dcm", "test-run-1" })
  end,

  ["at most 100 a run, the oldest first"] = function(t)
    policy(1, 30)
    for id = 1, 130 do document(id, 1, 40 + id) end
    t.equal(t.run(), { marked = 100, bytes = 100000, more = true })
    t.equal({ state(130), state(31), state(30) }, { "marked", "marked", "stored" })
    t.equal(t.run(), { marked = 30, bytes = 30000, more = false })
    t.equal(t.run(), { marked = 0, bytes = 0, more = false })
    t.ok(t.fails({ limit = 101 }).message:find("limit"))
  end,
}
