package clickhouse

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"
)

// nativeBlock reads as one block of ClickHouse's Native format at revision 0 (clickhouse.com/docs/interfaces/formats/Native):
// the number of columns and rows, then each column's name, type and values. A column is encoded when it is asked for,
// so that a block takes the memory of its largest column, not of all.
//
// It exists beside clickhouse-go's batches because those take 0.9 µs and 2 KB of garbage for a log line, and this takes
// a fifth; and because clickhouse-go makes LowCardinality columns too slowly to use, which costs the server as much
// again (DESIGN.md has the figures).
type nativeBlock[T any] struct {
	columns []column[T]
	rows    []T
	s       *scratch

	mu     sync.Mutex // Read may still be called by net/http after a request has failed
	closed bool
	next   int // column to encode
	left   []byte
	err    error
}

func newNativeBlock[T any](columns []column[T], rows []T, s *scratch) *nativeBlock[T] {
	s.wire = binary.AppendUvarint(s.wire[:0], uint64(len(columns)))
	s.wire = binary.AppendUvarint(s.wire, uint64(len(rows)))
	return &nativeBlock[T]{columns: columns, rows: rows, s: s, left: s.wire}
}

func (b *nativeBlock[T]) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.left) == 0 {
		switch {
		case b.closed:
			return 0, io.ErrClosedPipe
		case b.err != nil:
			return 0, b.err
		case b.next == len(b.columns):
			return 0, io.EOF
		}
		c := &b.columns[b.next]
		b.next++
		b.s.wire, b.err = c.encode(b.s.wire[:0], b.rows, b.s)
		b.left = b.s.wire
	}
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// close makes every later Read fail, so that rows and scratch may be used again.
func (b *nativeBlock[T]) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.left = true, nil
}

func (c *column[T]) encode(b []byte, rows []T, s *scratch) ([]byte, error) {
	b = appendText(b, c.name)
	values := c.values(rows, s)
	texts, isText := values.([]string)
	if isText && c.repeats {
		return s.appendDictionary(appendText(b, "LowCardinality(String)"), texts), nil
	}
	return appendValues(appendText(b, c.kind), values)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendValues(b []byte, values any) ([]byte, error) {
	le := binary.LittleEndian
	switch v := values.(type) {
	case []string:
		for _, s := range v {
			b = appendText(b, s)
		}
	case []time.Time:
		b = slices.Grow(b, 8*len(v))
		for _, at := range v {
			b = le.AppendUint64(b, micros(at))
		}
	case []*time.Time:
		b = slices.Grow(b, 9*len(v))
		for _, at := range v {
			if at == nil {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
		for _, at := range v {
			if at == nil {
				b = le.AppendUint64(b, 0)
			} else {
				b = le.AppendUint64(b, micros(*at))
			}
		}
	case []uint64:
		b = slices.Grow(b, 8*len(v))
		for _, n := range v {
			b = le.AppendUint64(b, n)
		}
	case []int64:
		b = slices.Grow(b, 8*len(v))
		for _, n := range v {
			b = le.AppendUint64(b, uint64(n))
		}
	case []uint32:
		for _, n := range v {
			b = le.AppendUint32(b, n)
		}
	case []int32:
		for _, n := range v {
			b = le.AppendUint32(b, uint32(n))
		}
	case []uint16:
		b = slices.Grow(b, 2*len(v))
		for _, n := range v {
			b = le.AppendUint16(b, n)
		}
	case []int16:
		b = slices.Grow(b, 2*len(v))
		for _, n := range v {
			b = le.AppendUint16(b, uint16(n))
		}
	case []int8:
		b = slices.Grow(b, len(v))
		for _, n := range v {
			b = append(b, byte(n))
		}
	case []float64:
		for _, f := range v {
			b = le.AppendUint64(b, math.Float64bits(f))
		}
	case []bool:
		for _, on := range v {
			if on {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	case [][]time.Time:
		end := uint64(0)
		for _, list := range v {
			end += uint64(len(list))
			b = le.AppendUint64(b, end)
		}
		for _, list := range v {
			for _, at := range list {
				b = le.AppendUint64(b, micros(at))
			}
		}
	case [][]string:
		end := uint64(0)
		for _, list := range v {
			end += uint64(len(list))
			b = le.AppendUint64(b, end)
		}
		for _, list := range v {
			for _, text := range list {
				b = appendText(b, text)
			}
		}
	case []*attrMap:
		end := uint64(0)
		for _, m := range v {
			end += uint64(len(m.attrs))
			b = le.AppendUint64(b, end)
		}
		for _, m := range v {
			for _, a := range m.attrs {
				b = appendText(b, a.Key)
			}
		}
		for _, m := range v {
			for _, a := range m.attrs {
				b = appendText(b, a.Value)
			}
		}
	default:
		return nil, fmt.Errorf("no encoding for %T", values)
	}
	return b, nil
}

// micros is a DateTime64(6): microseconds since 1970. The zero time is 1970.
func micros(at time.Time) uint64 {
	if at.IsZero() {
		return 0
	}
	return uint64(at.UnixMicro())
}

// The flags in front of a LowCardinality column's values (src/DataTypes/Serializations/SerializationLowCardinality.cpp).
const (
	dictionaryVersion  = 1      // shared dictionaries with additional keys
	dictionaryFollows  = 1 << 9 // the keys stand in front of the rows
	dictionaryReplaces = 1 << 10
)

// appendDictionary writes each distinct text once and the rows as numbers of texts. Neighbours are mostly equal, so
// most rows cost one comparison, of pointers.
func (s *scratch) appendDictionary(b []byte, texts []string) []byte {
	if s.known == nil {
		s.known = make(map[string]uint32)
	}
	clear(s.known)
	s.u32 = slices.Grow(s.u32[:0], len(texts))
	s.keys = append(s.keys[:0], "") // key 0 is the default value
	s.known[""] = 0
	last, number := "", uint32(0)
	for _, text := range texts {
		if text != last {
			at, ok := s.known[text]
			if !ok {
				at = uint32(len(s.keys))
				s.known[text] = at
				s.keys = append(s.keys, text)
			}
			last, number = text, at
		}
		s.u32 = append(s.u32, number)
	}
	le := binary.LittleEndian
	width := uint64(2) // 32 bits
	switch {
	case len(s.keys) <= math.MaxUint8:
		width = 0
	case len(s.keys) <= math.MaxUint16:
		width = 1
	}
	b = le.AppendUint64(b, dictionaryVersion)
	b = le.AppendUint64(b, width|dictionaryFollows|dictionaryReplaces)
	b = le.AppendUint64(b, uint64(len(s.keys)))
	for _, key := range s.keys {
		b = appendText(b, key)
	}
	b = le.AppendUint64(b, uint64(len(texts)))
	b = slices.Grow(b, len(texts)<<width)
	for _, n := range s.u32 {
		switch width {
		case 0:
			b = append(b, byte(n))
		case 1:
			b = le.AppendUint16(b, uint16(n))
		default:
			b = le.AppendUint32(b, n)
		}
	}
	return b
}
