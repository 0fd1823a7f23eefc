-- Sends failed text messages again through the SMS gateway: POST gateway_url with {id, phone, text} as JSON and the
-- header Idempotency-Key, by which the gateway knows a message it already has. Any 2xx answer means: taken.
-- An answer that refuses a message counts as one of its attempts; no answer, 429 or 503 is the gateway's trouble, so the
-- run ends there, the message keeps its attempts, and Gnomon is asked to come back later.

local function masked(phone) return "***" .. phone:sub(-4) end

return task {
  title = { zh = "短信发送失败，重发任务", en = "Resend failed text messages" },
  description = {
    zh = "把发送失败的短信经短信网关重新发送；超过最大次数的不再重试。",
    en = "Sends failed text messages again through the SMS gateway; gives up after the largest number of attempts.",
  },
  params = {
    gateway_url = { type = "string", required = true, minLength = 8, pattern = "^https?://",
      description = { zh = "短信网关地址", en = "address of the SMS gateway" } },
    batch = { type = "integer", default = 100, minimum = 1, maximum = 1000,
      description = { zh = "每次最多重发条数", en = "most messages sent in one run" } },
    max_attempts = { type = "integer", default = 5, minimum = 1, maximum = 50,
      description = { zh = "每条短信最多发送次数", en = "attempts before a message is given up" } },
    backoff_seconds = { type = "integer", default = 60, minimum = 1, maximum = 86400,
      description = { zh = "首次重试间隔秒数，之后每次加倍", en = "wait after a refusal; doubled each time, at most a day" } },
    timeout_seconds = { type = "integer", default = 10, minimum = 1, maximum = 120,
      description = { zh = "每次请求的超时秒数", en = "how long the gateway may take to answer" } },
  },
  needs = { "sql:business", "http" },
  timeout = "10m",
  output = { sent = { type = "integer" }, refused = { type = "integer" }, given_up = { type = "integer" } },
  run = function(ctx)
    local p = ctx.params
    local due = sql.query("business", [[select id, phone, text, attempts from sms_outbox
                                        where state = 'failed' and (next_try_at is null or next_try_at <= ?)
                                        order by id limit ?]], time.now(), p.batch)
    local sent, refused, given_up, sample = 0, 0, 0, {}

    for i, m in ipairs(due) do
      local attempts = m.attempts + 1
      local answered, answer = pcall(http.post, p.gateway_url, {
        json = { id = m.id, phone = m.phone, text = m.text },
        headers = { ["Idempotency-Key"] = "sms-" .. m.id },
        timeout = p.timeout_seconds * 1000,
      })
      if not answered or answer.status == 429 or answer.status == 503 then
        local why = answered and ("status " .. answer.status) or tostring(answer)
        local wait = answered and tonumber(answer.headers["retry-after"] or "") or 60
        log.warn("SMS gateway not available", { sent = sent, left = #due - i + 1, why = why })
        error { message = "SMS gateway not available: " .. why, retry_after = math.min(math.max(wait, 1), 3600) .. "s" }
      end

      local now = time.now()
      if answer.status >= 200 and answer.status < 300 then
        sql.exec("business", [[update sms_outbox set state = 'sent', attempts = ?, sent_at = ?, last_error = null,
                                      next_try_at = null, updated_at = ?
                               where id = ? and state = 'failed']], attempts, now, now, m.id)
        sent = sent + 1
        if #sample < 5 then sample[#sample + 1] = m.id end
      else
        local why = "gateway answered " .. answer.status .. ": " .. answer.body:sub(1, 200)
        local dead = attempts >= p.max_attempts
        local wait = math.min(p.backoff_seconds * 2 ^ (attempts - 1), 86400)
        sql.exec("business", [[update sms_outbox set state = ?, attempts = ?, last_error = ?, next_try_at = ?, updated_at = ?
                               where id = ? and state = 'failed']],
          dead and "dead" or "failed", attempts, why, not dead and now + wait * 1000 or nil, now, m.id)
        if dead then
          given_up = given_up + 1
          log.warn("text message given up", { id = m.id, phone = masked(m.phone), attempts = attempts, why = why })
        else
          refused = refused + 1
          log.debug("text message refused", { id = m.id, phone = masked(m.phone), attempts = attempts, why = why })
        end
      end
      ctx.progress(i, #due)
    end

    log.info("failed text messages sent again", {
      sent = sent, refused = refused, given_up = given_up, first_ids = table.concat(sample, ", "),
    })
    return { sent = sent, refused = refused, given_up = given_up }
  end,
}
