// Package gateway lets the official ClickHouse clients ask history: ClickHouse's HTTP protocol at /clickhouse/, with a token as
// password, read-only, within limits, and seeing the asker's namespaces only.
package gateway
