package recorder

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
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
	// Since format 2. The first three are their older forms with more behind them.
	recTree        = 9  // recPlugin with its Tree
	recHostDetail  = 10 // recHost with its Detail
	recAttemptWith = 11 // recAttempt with its Place
	recServer      = 12
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
	if s.Tree != nil {
		return appendTree(appendPlugin(append(b, recTree), s), s.Tree)
	}
	return appendPlugin(append(b, recPlugin), s)
}

func appendPlugin(b []byte, s *core.PluginSample) []byte {
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
	if s.Detail != nil {
		return appendHostDetail(appendHost(append(b, recHostDetail), s), s.Detail)
	}
	return appendHost(append(b, recHost), s)
}

func appendHost(b []byte, s *core.HostSample) []byte {
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
	if a.Place != (core.Place{}) {
		b = appendEnded(append(b, recAttemptWith), origin, a)
		b = appendString(b, a.Place.Server)
		b = appendString(b, a.Place.Plugin)
		b = appendString(b, a.Place.Version)
		return binary.AppendVarint(b, int64(a.Place.PID))
	}
	return appendEnded(append(b, recAttempt), origin, a)
}

func appendEnded(b []byte, origin uint32, a *core.AttemptRecord) []byte {
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

func appendTree(b []byte, t *core.Tree) []byte {
	b = appendString(b, string(t.Kind))
	b = appendString(b, t.Server)
	b = appendString(b, t.Host)
	b = appendString(b, t.CPUFrom)
	b = appendBool(b, t.Final)
	b = appendBool(b, t.Busy)
	for _, d := range [...]time.Duration{t.Span, t.SpentCPU, t.BusyCPU} {
		b = binary.AppendVarint(b, int64(d))
	}
	for _, v := range [...]uint64{t.StartTicks, t.Attempts, t.SpentReadBytes, t.SpentWriteBytes, t.SpentRSS, t.TotalRSS, t.BusyRSS} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendFloat(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}

func appendHostDetail(b []byte, d *core.HostDetail) []byte {
	b = appendFloat(appendFloat(b, d.Load5), d.Load15)
	for _, v := range [...]int64{int64(d.IOWait), int64(d.Steal), int64(d.Threads), int64(d.Runnable), int64(d.Blocked)} {
		b = binary.AppendVarint(b, v)
	}
	for _, v := range [...]uint64{d.SwapTotalBytes, d.OpenFiles, d.OpenFilesMax, d.ContextSwitches, d.Forks} {
		b = binary.AppendUvarint(b, v)
	}
	b = appendBool(b, d.Pressure != nil)
	if p := d.Pressure; p != nil {
		for _, v := range [...]time.Duration{p.CPUSome, p.MemorySome, p.MemoryFull, p.IOSome, p.IOFull} {
			b = binary.AppendVarint(b, int64(v))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(d.FileSystems)))
	for _, f := range d.FileSystems {
		b = appendString(b, f.Mount)
		b = binary.AppendUvarint(binary.AppendUvarint(b, f.TotalBytes), f.FreeBytes)
	}
	return b
}

func appendServer(b []byte, s *core.ServerRecord) []byte {
	b = append(b, recServer)
	b = appendString(b, s.ID)
	b = appendString(b, s.Host)
	b = appendString(b, s.Version)
	for _, v := range [...]int64{int64(s.PID), int64(s.Cores)} {
		b = binary.AppendVarint(b, v)
	}
	for _, at := range [...]time.Time{s.StartedAt, s.EndedAt, s.RecordedAt} {
		b = appendTime(b, at)
	}
	b = appendFloat(b, s.CPULimit)
	return binary.AppendUvarint(binary.AppendUvarint(b, s.MemBytes), s.MemLimit)
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
	only    *core.LineFilter // if not nil: keep only the log lines that it wants, stop when there are Limit, and keep nothing else
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
	for c.at < len(c.s) && (d.only == nil || d.only.Limit == 0 || len(d.seg.Logs) < d.only.Limit) {
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
		d.plugin(c.plugin(), c)
	case recTree:
		s := c.plugin()
		s.Tree = c.tree()
		d.plugin(s, c)
	case recHost:
		d.host(c.host(), c)
	case recHostDetail:
		s := c.host()
		s.Detail = c.hostDetail()
		d.host(s, c)
	case recServer:
		d.server(c)
	case recAttempt:
		d.attempt(c, false)
	case recAttemptWith:
		d.attempt(c, true)
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
	keep := d.only == nil || wants(d.only, o, core.LogLine{Level: level, Seq: seq, Message: message})
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

// wants says whether a filter wants a line of an attempt; AfterSeq counts within the filter's attempt.
func wants(f *core.LineFilter, o *core.Origin, l core.LogLine) bool {
	return o.RunID == f.RunID && (f.Attempt == 0 || o.Attempt == f.Attempt) && l.Seq > f.AfterSeq && f.Wants(l)
}

func (d *decoder) runSample(c *cursor) {
	o := d.origin(c)
	s := core.RunSample{At: c.time(), CPU: time.Duration(c.varint()), CPUSource: c.source(), RSSBytes: c.uvarint(),
		RSSSource: c.source(), ReadBytes: c.uvarint(), WriteBytes: c.uvarint(), IOSource: c.source(), Final: c.byte() == 1}
	if c.bad || d.only != nil {
		return
	}
	s.Origin = *o
	d.seg.RunSamples = append(room(d.seg.RunSamples), s)
}

func (d *decoder) attempt(c *cursor, placed bool) {
	o := d.origin(c)
	a := core.AttemptRecord{Token: c.varint(), StartedAt: c.time(), Began: c.time(), EndedAt: c.time(), RetryAt: c.time(),
		Verdict: core.Verdict(c.string()), Message: c.string(), Usage: core.Usage{CPU: time.Duration(c.varint()),
			CPUSource: c.source(), PeakRSSBytes: c.uvarint(), RSSSource: c.source(),
			ReadBytes: c.uvarint(), WriteBytes: c.uvarint(), IOSource: c.source()}}
	if placed {
		a.Place = core.Place{Server: c.string(), Plugin: c.string(), Version: c.string(), PID: int(c.varint())}
	}
	if c.bad || d.only != nil {
		return
	}
	a.Origin = *o
	d.seg.Attempts = append(room(d.seg.Attempts), a)
}

func (c *cursor) plugin() core.PluginSample {
	return core.PluginSample{ProcSample: core.ProcSample{At: c.time(), CPU: time.Duration(c.varint()),
		RSSBytes: c.uvarint(), ReadBytes: c.uvarint(), WriteBytes: c.uvarint(),
		Threads: int(c.varint()), FDs: int(c.varint()), Processes: int(c.varint())},
		Plugin: c.string(), Version: c.string(), Namespace: c.string(), PID: int(c.varint()), Running: int(c.varint())}
}

func (d *decoder) plugin(s core.PluginSample, c *cursor) {
	if !c.bad && d.only == nil {
		d.seg.PluginSamples = append(d.seg.PluginSamples, s)
	}
}

func (c *cursor) duration() time.Duration { return time.Duration(c.varint()) }

func (c *cursor) float() float64 { return math.Float64frombits(c.fixed64()) }

func (c *cursor) tree() *core.Tree {
	return &core.Tree{Kind: core.TreeKind(c.string()), Server: c.string(), Host: c.string(), CPUFrom: c.string(), Final: c.byte() == 1,
		Busy: c.byte() == 1, Span: c.duration(), SpentCPU: c.duration(), BusyCPU: c.duration(), StartTicks: c.uvarint(), Attempts: c.uvarint(),
		SpentReadBytes: c.uvarint(), SpentWriteBytes: c.uvarint(), SpentRSS: c.uvarint(), TotalRSS: c.uvarint(), BusyRSS: c.uvarint()}
}

func (c *cursor) host() core.HostSample {
	return core.HostSample{At: c.time(), Host: c.string(), CPU: c.duration(), CPUIdle: c.duration(), Cores: int(c.varint()), Load1: c.float(),
		MemTotalBytes: c.uvarint(), MemUsedBytes: c.uvarint(), SwapUsedBytes: c.uvarint(),
		DiskReadBytes: c.uvarint(), DiskWriteBytes: c.uvarint(), NetRecvBytes: c.uvarint(), NetSentBytes: c.uvarint(),
		DataTotalBytes: c.uvarint(), DataFreeBytes: c.uvarint()}
}

func (d *decoder) host(s core.HostSample, c *cursor) {
	if !c.bad && d.only == nil {
		d.seg.HostSamples = append(d.seg.HostSamples, s)
	}
}

func (c *cursor) hostDetail() *core.HostDetail {
	d := &core.HostDetail{Load5: c.float(), Load15: c.float(), IOWait: c.duration(), Steal: c.duration(), Threads: int(c.varint()),
		Runnable: int(c.varint()), Blocked: int(c.varint()), SwapTotalBytes: c.uvarint(), OpenFiles: c.uvarint(), OpenFilesMax: c.uvarint(),
		ContextSwitches: c.uvarint(), Forks: c.uvarint()}
	if c.byte() == 1 {
		d.Pressure = &core.Pressure{CPUSome: c.duration(), MemorySome: c.duration(), MemoryFull: c.duration(), IOSome: c.duration(), IOFull: c.duration()}
	}
	n := c.uvarint()
	if c.bad || n > uint64(len(c.s)-c.at)/3 { // a file system takes three bytes at least
		c.bad = true
		return nil
	}
	for range n {
		d.FileSystems = append(d.FileSystems, core.FileSystem{Mount: c.string(), TotalBytes: c.uvarint(), FreeBytes: c.uvarint()})
	}
	return d
}

func (d *decoder) server(c *cursor) {
	s := core.ServerRecord{ID: c.string(), Host: c.string(), Version: c.string(), PID: int(c.varint()), Cores: int(c.varint()),
		StartedAt: c.time(), EndedAt: c.time(), RecordedAt: c.time(), CPULimit: c.float(), MemBytes: c.uvarint(), MemLimit: c.uvarint()}
	if !c.bad && d.only == nil {
		d.seg.Servers = append(d.seg.Servers, s)
	}
}

// room doubles a list that is full: append grows a long one by a quarter, and leaves four times as much to be collected.
func room[T any](list []T) []T {
	if len(list) < cap(list) {
		return list
	}
	return slices.Grow(list, max(len(list), 16))
}
