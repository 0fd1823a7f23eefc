//go:build !linux

package luavm

// limitProcess does nothing where there is no RLIMIT_DATA that counts what Go maps; the interpreter's own limits stay.
func limitProcess(uint64) error { return nil }
