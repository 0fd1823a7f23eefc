-- Runs one job of the factory's project and production system: POST <base_url>/jobs/<job> with {fire_at, input} as JSON and
-- the header Idempotency-Key, by which the system knows a run it already has. It answers 200 with {found, handled, …},
-- 409 if it runs the job already, 429 or 503 if it is busy, any other 4xx if the job or its input is wrong.

return task {
  title = { zh = "工厂系统作业", en = "Job of the factory's system" },
  description = {
    zh = "调用工厂项目与生产系统的一个定时作业，返回它发现与处理的条数。",
    en = "Calls one scheduled job of the factory's project and production system and hands on what it found and handled.",
  },
  params = {
    base_url = { type = "string", default = "http://127.0.0.1:18083", pattern = "^https?://",
      description = { zh = "工厂系统地址", en = "address of the factory's system" } },
    job = { type = "string", required = true, pattern = "^_?[a-z][a-z0-9_]{1,63}$",
      description = { zh = "作业名，例如 daily_kit_check", en = "name of the job: daily_kit_check" } },
    input = { type = "object", default = {},
      description = { zh = "交给作业的数据，例如上一步的统计结果", en = "data for the job: what the step before has found" } },
    timeout_seconds = { type = "integer", default = 300, minimum = 1, maximum = 3600,
      description = { zh = "等待应答的秒数", en = "how long an answer may take" } },
  },
  needs = { "http" },
  timeout = "10m",
  output = { found = { type = "integer" }, handled = { type = "integer" }, batch = { type = "string" } },
  run = function(ctx)
    local p = ctx.params
    local url = p.base_url .. "/jobs/" .. p.job
    local answered, answer = pcall(http.post, url, {
      json = { fire_at = ctx.fire_at, input = p.input },
      headers = { ["Idempotency-Key"] = ctx.run_id },
      timeout = p.timeout_seconds * 1000,
    })
    if not answered then error { message = p.job .. ": no answer: " .. tostring(answer) } end
    if answer.status == 429 or answer.status == 503 then
      local wait = tonumber(answer.headers["retry-after"] or "") or 60
      error { message = p.job .. ": the system is busy", retry_after = math.min(math.max(wait, 1), 3600) .. "s" }
    end
    if answer.status ~= 200 then
      local why = p.job .. ": answered " .. answer.status .. ": " .. answer.body:sub(1, 200)
      error { message = why, permanent = answer.status >= 400 and answer.status < 500 and answer.status ~= 409 }
    end
    local result = json.decode(answer.body)
    log.info("job done", { job = p.job, found = result.found, handled = result.handled })
    return { found = result.found, handled = result.handled, batch = result.batch or "" }
  end,
}
