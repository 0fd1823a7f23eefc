package wire

import (
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
)

// shortAttempt is how long an attempt must take to have the process's memory and children read at its end: reading
// /proc/self/status costs about 4 µs, which a call of 20 µs should not pay. A shorter attempt carries the last reading,
// as shared.
const shortAttempt = time.Millisecond

// rssFreshFor is how long a reading of the peak memory serves short attempts.
const rssFreshFor = 250 * time.Millisecond

// crowd counts the attempts of this process: how many began (upper 32 bits) and how many are in progress (lower 32).
// One word, so that an attempt can tell at its end whether it was alone from beginning to end.
var crowd atomic.Uint64

const crowdBegan = 1 << 32

// Meter measures one attempt. Begin and End must be called on one goroutine that is locked to its thread between them.
type Meter struct {
	alone bool   // nothing else was in progress at Begin
	began uint64 // the attempt's number
	at    time.Time
	start reading
	reset bool // the process's peak memory was set back at Begin
}

// reading is what clocks and counters said at one moment.
type reading struct {
	thread, process, children time.Duration // CPU; of children only those that have ended and were waited for
	threadIO, processIO       ioCount
	childrenIO                ioCount
}

type ioCount struct{ read, write uint64 }

func (c ioCount) since(start ioCount) ioCount {
	return ioCount{read: c.read - min(start.read, c.read), write: c.write - min(start.write, c.write)}
}

// Begin takes the first reading.
func (m *Meter) Begin() {
	now := crowd.Add(crowdBegan + 1)
	m.began = now >> 32
	m.alone = now&(crowdBegan-1) == 1
	m.at = time.Now()
	if m.alone {
		m.reset = resetPeakRSS()
	}
	m.start = read(m.alone)
}

// BeganAt is when Begin was called.
func (m *Meter) BeganAt() time.Time { return m.at }

// End takes the last reading and gives the difference.
//
// An attempt that was alone in the process from beginning to end is given all the process used meanwhile, ended children
// included, as measured. One that was not is given what its handler's own thread used, as shared: goroutines it started
// ran on other threads and are not in it. (I/O of an attempt that was joined by another is the process's, as shared.)
func (m *Meter) End() *pluginv1.Usage {
	stop := read(m.alone)
	now := crowd.Add(^uint64(0)) // one fewer in progress
	alone := m.alone && now>>32 == m.began
	took := time.Since(m.at)

	usage := &pluginv1.Usage{}
	source := pluginv1.UsageSource_USAGE_SOURCE_SHARED
	cpu := stop.thread - m.start.thread
	io := stop.threadIO.since(m.start.threadIO)
	if m.alone { // and then joined by another: the thread's was not read, the process's is the nearest there is
		io = stop.processIO.since(m.start.processIO)
	}
	if alone {
		source = pluginv1.UsageSource_USAGE_SOURCE_MEASURED
		// The process's clock lags for threads other than the caller's, by up to a scheduler tick.
		cpu = max(cpu, stop.process-m.start.process) + max(stop.children-m.start.children, 0)
		children := stop.childrenIO.since(m.start.childrenIO)
		io = ioCount{read: io.read + children.read, write: io.write + children.write}
	}
	if canReadThread || alone && canReadProcess {
		usage.Cpu, usage.CpuSource = durationpb.New(max(cpu, 0)), source
		usage.ReadBytes, usage.WriteBytes, usage.IoSource = io.read, io.write, source
	}
	if alone && m.reset && took >= shortAttempt {
		if rss := readPeakRSS(); rss > 0 {
			usage.PeakRssBytes, usage.RssSource = rss, pluginv1.UsageSource_USAGE_SOURCE_MEASURED
			rememberPeak(rss)
			return usage
		}
	}
	if rss := recentPeak(); rss > 0 {
		usage.PeakRssBytes, usage.RssSource = rss, pluginv1.UsageSource_USAGE_SOURCE_SHARED
	}
	return usage
}

// The last reading of the process's peak memory, and when it was taken.
var (
	lastPeak   atomic.Uint64
	lastPeakAt atomic.Int64 // nanoseconds since processStart
)

var processStart = time.Now()

func rememberPeak(rss uint64) {
	lastPeak.Store(rss)
	lastPeakAt.Store(int64(time.Since(processStart)))
}

func recentPeak() uint64 {
	at := lastPeakAt.Load()
	now := int64(time.Since(processStart))
	if rss := lastPeak.Load(); rss > 0 && now-at < int64(rssFreshFor) {
		return rss
	}
	if !lastPeakAt.CompareAndSwap(at, now) { // another attempt reads it at this moment
		return lastPeak.Load()
	}
	rss := readPeakRSS()
	lastPeak.Store(rss)
	return rss
}
