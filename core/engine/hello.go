package engine

import (
	"encoding/binary"
	"strings"
)

// helloQuery is what clickhouse-go asks first in HTTP mode, to learn the revision of all later answers
// (clickhouse-go v2.50.0 conn_http.go, queryHello). It decodes this one answer at its own revision.
const helloQuery = "SELECT displayName(), version(), revision(), timezone()"

func isHello(sql string) bool {
	return strings.TrimRight(strings.TrimSpace(sql), ";") == helloQuery
}

// customSerializationRevision is since when each column of a block tells whether its serialization is special
// (DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION), blockInfoRevision since when a block starts with its info.
const (
	blockInfoRevision           = 51903
	customSerializationRevision = 54454
)

// helloBlock is the answer: one row in a block of the client's revision, naming revision 0 as ours. libchdb writes
// FORMAT Native without a revision, and revision 0 makes the client read it so.
func helloBlock(revision uint64, name, version, timezone string) []byte {
	var b []byte
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	if revision >= blockInfoRevision {
		b = append(b, 1, 0)       // field 1: is_overflows = false
		b = append(b, 2)          // field 2: bucket_num
		b = append(b, 0xff, 0xff) // = -1: none
		b = append(b, 0xff, 0xff)
		b = append(b, 0) // no more fields
	}
	b = append(b, 4, 1) // columns, rows
	column := func(name, kind string) {
		text(name)
		text(kind)
		if revision >= customSerializationRevision {
			b = append(b, 0)
		}
	}
	column("displayName()", "String")
	text(name)
	column("version()", "String")
	text(version)
	column("revision()", "UInt32")
	b = append(b, 0, 0, 0, 0)
	column("timezone()", "String")
	text(timezone)
	return b
}
