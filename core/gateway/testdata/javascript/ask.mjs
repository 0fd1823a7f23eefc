// Asks the questions on standard input with @clickhouse/client, unmodified, and prints each answer as one line of JSON.
import { createClient } from '@clickhouse/client'
import { text } from 'node:stream/consumers'

// plain gives a value in the one form that all clients of the test print.
function plain(value) {
  if (value === null) return null
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === 'object') {
    return Object.fromEntries(Object.keys(value).sort().map((k) => [k, plain(value[k])]))
  }
  return String(value)
}

const ask = JSON.parse(await text(process.stdin))
const client = createClient({
  url: `http://${ask.host}:${ask.port}`, pathname: '/clickhouse/', username: 'analyst', password: ask.token,
  compression: { response: true }, clickhouse_settings: { output_format_json_quote_64bit_integers: 1 },
})

async function answer(question) {
  try {
    const result = await client.query({ query: question.sql, format: 'JSONCompactEachRow', query_params: question.params })
    const rows = []
    let count = 0
    let total = 0n
    for await (const chunk of result.stream()) {
      for (const row of chunk) {
        const cells = row.json()
        if (question.big) {
          count++
          total += BigInt(cells[0])
        } else {
          rows.push(plain(cells))
        }
      }
    }
    return question.big ? [[String(count), String(total)]] : rows
  } catch (e) {
    return [['error', String(e.code === '47')]]
  }
}

await client.ping()
for (const question of ask.questions) {
  console.log(JSON.stringify(await answer(question)))
}
await client.close()
