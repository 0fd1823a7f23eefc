"""Asks the questions on standard input with clickhouse-connect, unmodified, and prints each answer as one line of JSON."""
import datetime
import json
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError


def plain(value):
    """Gives a value in the one form that all clients of the test print."""
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value)


def answer(client, question):
    try:
        if question.get("big"):
            count = total = 0
            with client.query_row_block_stream(question["sql"]) as blocks:
                for block in blocks:
                    for row in block:
                        count, total = count + 1, total + row[0]
            return [[str(count), str(total)]]
        result = client.query(question["sql"], parameters=question.get("params") or None)
        return [[plain(v) for v in row] for row in result.result_rows]
    except DatabaseError as e:
        return [["error", str("Code: 47" in str(e) or "code 47" in str(e)).lower()]]


def main():
    ask = json.load(sys.stdin)
    client = clickhouse_connect.get_client(
        host=ask["host"], port=ask["port"], username="analyst", password=ask["token"], proxy_path="/clickhouse")
    for question in ask["questions"]:
        print(json.dumps(answer(client, question), ensure_ascii=False, sort_keys=True, separators=(",", ":")))


main()
