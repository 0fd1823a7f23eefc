package clickhouse

import (
	"context"
	"slices"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	chcolumn "github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/gnomon-scheduler/gnomon/core"
)

// column is one column of an insert: its type on the wire, which the server converts to the table's, and how to get
// the values of a whole batch.
type column[T any] struct {
	name, kind string
	repeats    bool // few distinct texts: worth a dictionary
	values     func(rows []T, s *scratch) any
}

// scratch are slices that one batch after another fills, so that a segment costs no garbage per line.
type scratch struct {
	texts    []string
	times    []time.Time
	nullable []*time.Time
	u64      []uint64
	i64      []int64
	u32      []uint32
	i32      []int32
	u16      []uint16
	i16      []int16
	i8       []int8
	lists    [][]time.Time
	words    [][]string
	f64      []float64
	maybe64  []*uint64
	maybeF   []*float64
	rooms    []map[string]uint64
	bools    []bool
	maps     []*attrMap
	spare    []attrMap
	keys     []string
	known    map[string]uint32
	wire     []byte
}

func fill[T, V any](into *[]V, rows []T, value func(*T) V) []V {
	out := slices.Grow((*into)[:0], len(rows))[:len(rows)]
	for i := range rows {
		out[i] = value(&rows[i])
	}
	*into = out
	return out
}

func textOf[T any](name string, value func(*T) string) column[T] {
	return column[T]{name: name, kind: "String", values: func(rows []T, s *scratch) any { return fill(&s.texts, rows, value) }}
}

// nameOf is a text of which a batch has few different ones.
func nameOf[T any](name string, value func(*T) string) column[T] {
	c := textOf(name, value)
	c.repeats = true
	return c
}

func timeOf[T any](name string, value func(*T) time.Time) column[T] {
	return column[T]{name: name, kind: "DateTime64(6, 'UTC')", values: func(rows []T, s *scratch) any { return fill(&s.times, rows, value) }}
}

// maybeTimeOf is a time whose zero value is NULL.
func maybeTimeOf[T any](name string, value func(*T) *time.Time) column[T] {
	return column[T]{name: name, kind: "Nullable(DateTime64(6, 'UTC'))", values: func(rows []T, s *scratch) any {
		return fill(&s.nullable, rows, func(r *T) *time.Time {
			if at := value(r); !at.IsZero() {
				return at
			}
			return nil
		})
	}}
}

func timesOf[T any](name string, value func(*T) []time.Time) column[T] {
	return column[T]{name: name, kind: "Array(DateTime64(6, 'UTC'))", values: func(rows []T, s *scratch) any { return fill(&s.lists, rows, value) }}
}

func textsOf[T any](name string, value func(*T) []string) column[T] {
	return column[T]{name: name, kind: "Array(String)", values: func(rows []T, s *scratch) any { return fill(&s.words, rows, value) }}
}

func u64Of[T any](name string, value func(*T) uint64) column[T] {
	return column[T]{name: name, kind: "UInt64", values: func(rows []T, s *scratch) any { return fill(&s.u64, rows, value) }}
}

// microsOf is a span in whole microseconds; a negative one is written as 0.
func microsOf[T any](name string, value func(*T) time.Duration) column[T] {
	return u64Of(name, func(r *T) uint64 { return uint64(max(0, value(r)).Microseconds()) })
}

// maybeU64Of is a number that may be NULL.
func maybeU64Of[T any](name string, value func(*T) *uint64) column[T] {
	return column[T]{name: name, kind: "Nullable(UInt64)", values: func(rows []T, s *scratch) any { return fill(&s.maybe64, rows, value) }}
}

func maybeF64Of[T any](name string, value func(*T) *float64) column[T] {
	return column[T]{name: name, kind: "Nullable(Float64)", values: func(rows []T, s *scratch) any { return fill(&s.maybeF, rows, value) }}
}

// roomsOf is a number by name.
func roomsOf[T any](name string, value func(*T) map[string]uint64) column[T] {
	return column[T]{name: name, kind: "Map(String, UInt64)", values: func(rows []T, s *scratch) any { return fill(&s.rooms, rows, value) }}
}

func i64Of[T any](name string, value func(*T) int64) column[T] {
	return column[T]{name: name, kind: "Int64", values: func(rows []T, s *scratch) any { return fill(&s.i64, rows, value) }}
}

func u32Of[T any](name string, value func(*T) int) column[T] {
	return column[T]{name: name, kind: "UInt32", values: func(rows []T, s *scratch) any {
		return fill(&s.u32, rows, func(r *T) uint32 { return uint32(value(r)) })
	}}
}

func i32Of[T any](name string, value func(*T) int) column[T] {
	return column[T]{name: name, kind: "Int32", values: func(rows []T, s *scratch) any { return fill(&s.i32, rows, func(r *T) int32 { return int32(value(r)) }) }}
}

func u16Of[T any](name string, value func(*T) int) column[T] {
	return column[T]{name: name, kind: "UInt16", values: func(rows []T, s *scratch) any {
		return fill(&s.u16, rows, func(r *T) uint16 { return uint16(value(r)) })
	}}
}

func i16Of[T any](name string, value func(*T) int) column[T] {
	return column[T]{name: name, kind: "Int16", values: func(rows []T, s *scratch) any { return fill(&s.i16, rows, func(r *T) int16 { return int16(value(r)) }) }}
}

// enumOf is a small number that the table knows by name; one it does not know is written as 0.
func enumOf[T any](name string, value func(*T) uint8, largest uint8) column[T] {
	return column[T]{name: name, kind: "Int8", values: func(rows []T, s *scratch) any {
		return fill(&s.i8, rows, func(r *T) int8 {
			if v := value(r); v <= largest {
				return int8(v)
			}
			return 0
		})
	}}
}

func f64Of[T any](name string, value func(*T) float64) column[T] {
	return column[T]{name: name, kind: "Float64", values: func(rows []T, s *scratch) any { return fill(&s.f64, rows, value) }}
}

func boolOf[T any](name string, value func(*T) bool) column[T] {
	return column[T]{name: name, kind: "Bool", values: func(rows []T, s *scratch) any { return fill(&s.bools, rows, value) }}
}

// table is what is needed to insert into one table.
type table[T any] struct {
	name    string
	columns []column[T]
	insert  string
}

func newTable[T any](name string, columns ...column[T]) *table[T] {
	t := &table[T]{name: name, columns: columns}
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	t.insert = "INSERT INTO " + name + " (" + strings.Join(names, ", ") + ")"
	return t
}

// write inserts rows as one block. token names the batch for ever: the server drops a batch whose token it has seen
// lately, and the table's key removes what it has forgotten.
func (t *table[T]) write(ctx context.Context, c *Client, token string, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	how := ch.Settings{
		"insert_deduplication_token":       token + "/" + t.name,
		"insert_deduplicate":               1,
		"async_insert":                     0,
		"optimize_on_insert":               0, // a batch has no repeats in itself, so looking for them is a waste
		"materialize_statistics_on_insert": 0, // merges make them; a part as small as a batch is read as fast without
		"max_partitions_per_insert_block":  0, // a skipped range may lie a hundred months back
	}
	if c.defersIndexes {
		how["exclude_materialize_skip_indexes_on_insert"] = wordIndexes
	}
	ctx = settings(ctx, with(how, c.cluster.inserting()))
	s := c.scratch()
	var err error
	if c.http {
		block := newNativeBlock(t.columns, rows, s)
		err = c.writes.InsertFormat(ctx, "Native", t.insert, block)
		block.close()
	} else {
		err = t.writeBatch(ctx, c, rows, s)
	}
	if err != nil {
		return writeError("write "+t.name, err)
	}
	c.putBack(s)
	return nil
}

// writeBatch is the way over ClickHouse's native protocol, where clickhouse-go makes the block.
func (t *table[T]) writeBatch(ctx context.Context, c *Client, rows []T, s *scratch) error {
	batch, err := c.writes.PrepareBatch(ctx, t.insert)
	if err != nil {
		return err
	}
	defer func() { _ = batch.Close() }()
	if err := t.append(batch, rows, s); err != nil {
		return err
	}
	return batch.Send()
}

func (t *table[T]) append(batch driver.Batch, rows []T, s *scratch) error {
	for i, c := range t.columns {
		if err := batch.Column(i).Append(c.values(rows, s)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) scratch() *scratch {
	if s, ok := c.scratches.Get().(*scratch); ok {
		return s
	}
	return &scratch{}
}

// putBack forgets what the slices point to, so that a segment can be collected.
func (c *Client) putBack(s *scratch) {
	clear(s.texts[:cap(s.texts)])
	clear(s.nullable[:cap(s.nullable)])
	clear(s.lists[:cap(s.lists)])
	clear(s.words[:cap(s.words)])
	clear(s.maybe64[:cap(s.maybe64)])
	clear(s.maybeF[:cap(s.maybeF)])
	clear(s.rooms[:cap(s.rooms)])
	clear(s.keys[:cap(s.keys)])
	clear(s.known)
	clear(s.maps[:cap(s.maps)])
	clear(s.spare[:cap(s.spare)])
	c.scratches.Put(s)
}

// attrMap hands a line's attributes to clickhouse-go's Map column without making a Go map.
type attrMap struct{ attrs []core.Attr }

// Put is needed by the interface for reading, which never happens here.
func (m *attrMap) Put(_, _ any) {}

// Iterator walks the attributes in order.
func (m *attrMap) Iterator() chcolumn.MapIterator { return &attrWalk{attrs: m.attrs, at: -1} }

type attrWalk struct {
	attrs []core.Attr
	at    int
}

func (w *attrWalk) Next() bool { w.at++; return w.at < len(w.attrs) }
func (w *attrWalk) Key() any   { return w.attrs[w.at].Key }
func (w *attrWalk) Value() any { return w.attrs[w.at].Value }
