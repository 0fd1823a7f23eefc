package recorder

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// The kinds of record inside a block. Numbers are never given a second meaning.
const (
	recOrigin  = 1 // whose attempt the records after it belong to; numbered from 0 within its block
	recLine    = 2
	recRun     = 3
	recPlugin  = 4
	recHost    = 5
	recAttempt = 6
	recMark    = 7 // how many lines a still open attempt had said when the segment holding them was deleted
	recSeal    = 8 // the foot of a sealed segment; alone in the last block
)

// errRecord says that the bytes of a block, though its checksum holds, are not records this program knows.
var errRecord = errors.New("unknown or malformed record")

// sourceCodes gives each core.Source one byte. Any other value is stored as unknown, never guessed.
var sourceCodes = [...]core.Source{"", core.SourceUnknown, core.SourceMeasured, core.SourceShared}

func appendSource(b []byte, s core.Source) []byte {
	for i, known := range sourceCodes {
		if s == known {
			return append(b, byte(i))
		}
	}
	return append(b, 1)
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendTime keeps whole microseconds, which is what history keeps; every time.Time, also the zero one, survives.
func appendTime(b []byte, t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(t.UnixMicro()))
}

func appendOrigin(b []byte, o *core.Origin) []byte {
	b = append(b, recOrigin)
	b = binary.AppendVarint(b, int64(o.Attempt))
	b = appendString(b, o.RunID)
	b = appendString(b, o.TaskID)
	b = appendString(b, o.Namespace)
	b = appendString(b, o.TaskName)
	b = appendString(b, o.TaskType)
	return appendTime(b, o.FireAt)
}

func appendLine(b []byte, origin uint32, seq uint64, l *core.LogLine) []byte {
	b = append(b, recLine, byte(l.Level), byte(l.Stream))
	b = binary.AppendUvarint(b, uint64(origin))
	b = binary.AppendUvarint(b, seq)
	b = appendTime(b, l.At)
	b = appendString(b, l.Message)
	b = binary.AppendUvarint(b, uint64(len(l.Attrs)))
	for i := range l.Attrs {
		b = appendString(b, l.Attrs[i].Key)
		b = appendString(b, l.Attrs[i].Value)
	}
	return b
}

func appendMark(b []byte, origin uint32, lastSeq uint64) []byte {
	b = append(b, recMark)
	b = binary.AppendUvarint(b, uint64(origin))
	return binary.AppendUvarint(b, lastSeq)
}

func appendRunSample(b []byte, origin uint32, s *core.RunSample) []byte {
	b = append(b, recRun)
	b = binary.AppendUvarint(b, uint64(origin))
	b = appendTime(b, s.At)
	b = binary.AppendVarint(b, int64(s.CPU))
	b = appendSource(b, s.CPUSource)
	b = binary.AppendUvarint(b, s.RSSBytes)
	b = appendSource(b, s.RSSSource)
	b = binary.AppendUvarint(b, s.ReadBytes)
	b = binary.AppendUvarint(b, s.WriteBytes)
	b = appendSource(b, s.IOSource)
	return appendBool(b, s.Final)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendPluginSample(b []byte, s *core.PluginSample) []byte {
	b = append(b, recPlugin)
	b = appendTime(b, s.At)
	b = binary.AppendVarint(b, int64(s.CPU))
	b = binary.AppendUvarint(b, s.RSSBytes)
	b = binary.AppendUvarint(b, s.ReadBytes)
	b = binary.AppendUvarint(b, s.WriteBytes)
	b = binary.AppendVarint(b, int64(s.Threads))
	b = binary.AppendVarint(b, int64(s.FDs))
	b = binary.AppendVarint(b, int64(s.Processes))
	b = appendString(b, s.Plugin)
	b = appendString(b, s.Version)
	b = appendString(b, s.Namespace)
	b = binary.AppendVarint(b, int64(s.PID))
	return binary.AppendVarint(b, int64(s.Running))
}

func appendHostSample(b []byte, s *core.HostSample) []byte {
	b = append(b, recHost)
	b = appendTime(b, s.At)
	b = appendString(b, s.Host)
	b = binary.AppendVarint(b, int64(s.CPU))
	b = binary.AppendVarint(b, int64(s.CPUIdle))
	b = binary.AppendVarint(b, int64(s.Cores))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.Load1))
	for _, v := range [...]uint64{s.MemTotalBytes, s.MemUsedBytes, s.SwapUsedBytes, s.DiskReadBytes, s.DiskWriteBytes,
		s.NetRecvBytes, s.NetSentBytes, s.DataTotalBytes, s.DataFreeBytes} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendAttempt(b []byte, origin uint32, a *core.AttemptRecord) []byte {
	b = append(b, recAttempt)
	b = binary.AppendUvarint(b, uint64(origin))
	b = binary.AppendVarint(b, a.Token)
	for _, t := range [...]time.Time{a.StartedAt, a.Began, a.EndedAt, a.RetryAt} {
		b = appendTime(b, t)
	}
	b = appendString(b, string(a.Verdict))
	b = appendString(b, a.Message)
	b = binary.AppendVarint(b, int64(a.Usage.CPU))
	b = appendSource(b, a.Usage.CPUSource)
	b = binary.AppendUvarint(b, a.Usage.PeakRSSBytes)
	b = appendSource(b, a.Usage.RSSSource)
	b = binary.AppendUvarint(b, a.Usage.ReadBytes)
	b = binary.AppendUvarint(b, a.Usage.WriteBytes)
	return appendSource(b, a.Usage.IOSource)
}

// cursor reads the records of one block. After a malformed field bad stays true and every value is zero.
type cursor struct {
	s   string
	at  int
	bad bool
}

func (c *cursor) byte() byte {
	if c.at >= len(c.s) {
		c.bad = true
		return 0
	}
	v := c.s[c.at]
	c.at++
	return v
}

func (c *cursor) uvarint() uint64 {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		b := c.byte()
		if c.bad {
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if shift == 63 && b > 1 {
				break
			}
			return v
		}
	}
	c.bad = true
	return 0
}

func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (c *cursor) fixed64() uint64 {
	if c.bad || len(c.s)-c.at < 8 {
		c.bad = true
		return 0
	}
	p := c.s[c.at : c.at+8]
	c.at += 8
	return uint64(p[0]) | uint64(p[1])<<8 | uint64(p[2])<<16 | uint64(p[3])<<24 |
		uint64(p[4])<<32 | uint64(p[5])<<40 | uint64(p[6])<<48 | uint64(p[7])<<56
}

func (c *cursor) time() time.Time { return time.UnixMicro(int64(c.fixed64())).UTC() }

func (c *cursor) string() string {
	n := c.uvarint()
	if c.bad || n > uint64(len(c.s)-c.at) {
		c.bad = true
		return ""
	}
	v := c.s[c.at : c.at+int(n)]
	c.at += int(n)
	return v
}

func (c *cursor) source() core.Source {
	b := c.byte()
	if int(b) >= len(sourceCodes) {
		c.bad = true
		return core.SourceUnknown
	}
	return sourceCodes[b]
}

// decoder turns blocks into records. Strings of what it gives point into the bytes it was given.
type decoder struct {
	seg     core.Segment
	only    string // if not "": keep only log lines of this run, and nothing else
	origins []*core.Origin
	attrs   []core.Attr // arena: the attributes of many lines in few allocations
	marks   []mark
	records int
}

// mark is a decoded recMark.
type mark struct {
	origin *core.Origin
	seq    uint64
}

// block decodes the payload of one block. On an error the records before the malformed one are kept.
func (d *decoder) block(payload string) error {
	c := cursor{s: payload}
	d.origins = d.origins[:0]
	for c.at < len(c.s) {
		if !d.record(&c) {
			return errRecord
		}
		d.records++
	}
	return nil
}

func (d *decoder) origin(c *cursor) *core.Origin {
	n := c.uvarint()
	if c.bad || n >= uint64(len(d.origins)) {
		c.bad = true
		return nil
	}
	return d.origins[n]
}

func (d *decoder) record(c *cursor) bool {
	switch c.byte() {
	case recOrigin:
		o := &core.Origin{Attempt: int(c.varint()), RunID: c.string(), TaskID: c.string(), Namespace: c.string(),
			TaskName: c.string(), TaskType: c.string(), FireAt: c.time()}
		d.origins = append(d.origins, o)
	case recLine:
		d.line(c)
	case recMark:
		m := mark{origin: d.origin(c), seq: c.uvarint()}
		if !c.bad {
			d.marks = append(d.marks, m)
		}
	case recRun:
		d.runSample(c)
	case recPlugin:
		s := core.PluginSample{ProcSample: core.ProcSample{At: c.time(), CPU: time.Duration(c.varint()),
			RSSBytes: c.uvarint(), ReadBytes: c.uvarint(), WriteBytes: c.uvarint(),
			Threads: int(c.varint()), FDs: int(c.varint()), Processes: int(c.varint())},
			Plugin: c.string(), Version: c.string(), Namespace: c.string(), PID: int(c.varint()), Running: int(c.varint())}
		if !c.bad && d.only == "" {
			d.seg.PluginSamples = append(d.seg.PluginSamples, s)
		}
	case recHost:
		s := core.HostSample{At: c.time(), Host: c.string(), CPU: time.Duration(c.varint()),
			CPUIdle: time.Duration(c.varint()), Cores: int(c.varint()), Load1: math.Float64frombits(c.fixed64()),
			MemTotalBytes: c.uvarint(), MemUsedBytes: c.uvarint(), SwapUsedBytes: c.uvarint(),
			DiskReadBytes: c.uvarint(), DiskWriteBytes: c.uvarint(), NetRecvBytes: c.uvarint(), NetSentBytes: c.uvarint(),
			DataTotalBytes: c.uvarint(), DataFreeBytes: c.uvarint()}
		if !c.bad && d.only == "" {
			d.seg.HostSamples = append(d.seg.HostSamples, s)
		}
	case recAttempt:
		d.attempt(c)
	default:
		return false
	}
	return !c.bad
}

func (d *decoder) line(c *cursor) {
	level, stream := core.Level(c.byte()), core.Stream(c.byte())
	o := d.origin(c)
	seq, at, message, n := c.uvarint(), c.time(), c.string(), c.uvarint()
	if c.bad || n > uint64(len(c.s)-c.at)/2 { // an attribute takes two bytes at least
		c.bad = true
		return
	}
	keep := d.only == "" || o.RunID == d.only
	var attrs []core.Attr
	if n > 0 {
		from := len(d.attrs)
		for range n {
			a := core.Attr{Key: c.string(), Value: c.string()}
			if keep {
				d.attrs = append(d.attrs, a)
			}
		}
		attrs = d.attrs[from:len(d.attrs):len(d.attrs)]
	}
	if c.bad || !keep {
		return
	}
	d.seg.Logs = append(d.seg.Logs, core.LoggedLine{Origin: o,
		LogLine: core.LogLine{At: at, Level: level, Stream: stream, Seq: seq, Message: message, Attrs: attrs}})
}

func (d *decoder) runSample(c *cursor) {
	o := d.origin(c)
	s := core.RunSample{At: c.time(), CPU: time.Duration(c.varint()), CPUSource: c.source(), RSSBytes: c.uvarint(),
		RSSSource: c.source(), ReadBytes: c.uvarint(), WriteBytes: c.uvarint(), IOSource: c.source(), Final: c.byte() == 1}
	if c.bad || d.only != "" {
		return
	}
	s.Origin = *o
	d.seg.RunSamples = append(d.seg.RunSamples, s)
}

func (d *decoder) attempt(c *cursor) {
	o := d.origin(c)
	a := core.AttemptRecord{Token: c.varint(), StartedAt: c.time(), Began: c.time(), EndedAt: c.time(), RetryAt: c.time(),
		Verdict: core.Verdict(c.string()), Message: c.string(), Usage: core.Usage{CPU: time.Duration(c.varint()),
			CPUSource: c.source(), PeakRSSBytes: c.uvarint(), RSSSource: c.source(),
			ReadBytes: c.uvarint(), WriteBytes: c.uvarint(), IOSource: c.source()}}
	if c.bad || d.only != "" {
		return
	}
	a.Origin = *o
	d.seg.Attempts = append(d.seg.Attempts, a)
}
