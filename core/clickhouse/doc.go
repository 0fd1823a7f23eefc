// Package clickhouse is history: it keeps the schema, writes what the recorder and the shipper send, and reads it back
// for runs, log lines and analysts. It is the only owner of clickhouse-go. It does not care whether the server is
// Gnomon's embedded engine or a real ClickHouse. See DESIGN.md.
package clickhouse
