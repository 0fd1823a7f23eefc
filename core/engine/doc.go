// Package engine is the embedded ClickHouse: it opens libchdb (ClickHouse as a library) without cgo and answers
// ClickHouse's HTTP protocol on a unix socket, so that the rest of Gnomon reaches history by one road, whether the
// server behind it is this one or a real cluster. Serve is the body of the `gnomon engine` process; Supervisor keeps
// such a process alive. See DESIGN.md.
package engine
