package forecast

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// maxQueued is how many runs are sent through one limit one by one; of a limit with more only the use is said.
const maxQueued = 2_000_000

// maxMoments is how many moments a limit lists.
const maxMoments = 5

// LimitForecast is what comes upon a limit: a pool, a namespace, a task type.
type LimitForecast struct {
	Key         string // "pool:erp"
	Slots       int
	Runs        int64
	Use         float64       // slots wanted on average, over all there are, by counted tasks too; above 1 the queue only grows
	Waiting     int64         // runs that wait
	LongestWait time.Duration // of one run
	LongestAt   time.Time     // the instant of that run
	MeanWait    time.Duration // of those that wait
	PeakSlots   int           // most slots wanted in one second
	PeakAt      time.Time
	Moments     []Moment // where more is wanted than there is, the longest waits first
	// Rough says that tasks which fire too often, or too many, were not sent through one by one: they are in Runs and Use only.
	Rough bool
}

// Moment is a second in which runs want more slots than there are.
type Moment struct {
	At    time.Time // the first, or the worst, of those with the same tasks
	Times int
	Runs  int
	Slots int           // that they want together
	Wait  time.Duration // of the last of them
	Tasks []Ref         // at most 20
	Text  core.Text     // "pool:erp: 6 runs want 6 of 2 slots at 09:00:00 (7 times); the last waits about 40 s"
}

type member struct {
	*drawn
	need int
}

// limits sends the runs of each limit through it, first come, first served.
func (c *canvas) limits() {
	members, slots := map[string][]member{}, map[string]int{}
	for _, d := range c.tasks {
		for _, l := range d.Limits {
			if l.Slots <= 0 {
				continue
			}
			members[l.Key] = append(members[l.Key], member{d, min(max(1, l.Need), l.Slots)})
			slots[l.Key] = max(slots[l.Key], l.Slots)
		}
	}
	for key, list := range members {
		slices.SortStableFunc(list, func(a, b member) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
		})
		c.report.Limits = append(c.report.Limits, c.limit(key, slots[key], list))
	}
	slices.SortFunc(c.report.Limits, func(a, b LimitForecast) int {
		return cmp.Or(cmp.Compare(b.LongestWait, a.LongestWait), cmp.Compare(b.Use, a.Use), strings.Compare(a.Key, b.Key))
	})
}

func (c *canvas) limit(key string, slots int, list []member) LimitForecast {
	f := LimitForecast{Key: key, Slots: slots}
	drawnRuns := 0
	for _, m := range list {
		f.Runs += m.fires
		f.Use += float64(m.fires) * m.took.Seconds() * float64(m.need)
		f.Rough = f.Rough || m.counted
		drawnRuns += len(m.offs)
	}
	if c.seconds == 0 {
		return f
	}
	f.Use /= float64(c.seconds) * float64(slots)
	if drawnRuns > maxQueued {
		f.Rough = true
		return f
	}
	q := newQueue(c, &f, list)
	q.run(c.arrivals(list, drawnRuns))
	return f
}

// arrivals gives the runs in the order in which they come, as members' indices, and where each second begins.
func (c *canvas) arrivals(list []member, n int) (order []int32, begin []int32) {
	begin = make([]int32, c.seconds+1)
	for _, m := range list {
		for _, off := range m.offs {
			begin[off+1]++
		}
	}
	for i := range c.seconds {
		begin[i+1] += begin[i]
	}
	order = make([]int32, n)
	next := slices.Clone(begin)
	for who, m := range list {
		for _, off := range m.offs {
			order[next[off]] = int32(who)
			next[off]++
		}
	}
	return order, begin
}

// queue is a limit with what runs in it.
type queue struct {
	c       *canvas
	f       *LimitForecast
	list    []member
	free    int
	running []ending // a heap: the earliest end first
	last    time.Duration
	waits   time.Duration
	moments map[uint64]*Moment
}

type ending struct {
	at   time.Duration
	need int
}

func newQueue(c *canvas, f *LimitForecast, list []member) *queue {
	return &queue{c: c, f: f, list: list, free: f.Slots, moments: map[uint64]*Moment{}}
}

func (q *queue) run(order, begin []int32) {
	for second := range q.c.seconds {
		from, to := begin[second], begin[second+1]
		if from == to {
			continue
		}
		wanted, who, wait := 0, uint64(0), time.Duration(0)
		for _, m := range order[from:to] {
			wanted += q.list[m].need
			who += q.list[m].mix
			wait = q.start(time.Duration(second)*time.Second, &q.list[m])
		}
		if wanted > q.f.PeakSlots {
			q.f.PeakSlots, q.f.PeakAt = wanted, q.c.at(second)
		}
		if wanted > q.f.Slots {
			q.moment(who, second, wanted, wait, order[from:to])
		}
	}
	if q.f.Waiting > 0 {
		q.f.MeanWait = (q.waits / time.Duration(q.f.Waiting)).Round(time.Millisecond)
	}
	for _, m := range q.moments {
		q.f.Moments = append(q.f.Moments, *m)
	}
	slices.SortFunc(q.f.Moments, func(a, b Moment) int {
		return cmp.Or(cmp.Compare(b.Wait, a.Wait), cmp.Compare(b.Slots, a.Slots), a.At.Compare(b.At))
	})
	q.f.Moments = slices.Clone(q.f.Moments[:min(maxMoments, len(q.f.Moments))])
	for i := range q.f.Moments {
		q.say(&q.f.Moments[i])
	}
}

// start admits a run as soon as those before it have been and there is room; it gives how long that took.
func (q *queue) start(at time.Duration, m *member) time.Duration {
	now := max(at, q.last)
	for len(q.running) > 0 && (q.running[0].at <= now || q.free < m.need) {
		e := q.pop()
		now = max(now, e.at)
		q.free += e.need
	}
	q.last = now
	q.free -= m.need
	q.push(ending{now + max(m.took, time.Millisecond), m.need})
	wait := now - at
	if wait > 0 {
		q.f.Waiting++
		q.waits += wait
		if wait > q.f.LongestWait {
			q.f.LongestWait, q.f.LongestAt = wait, q.c.at(int(at/time.Second))
		}
	}
	return wait
}

// maxMomentSets bounds the sets of tasks that are remembered for one limit.
const maxMomentSets = 10_000

func (q *queue) moment(who uint64, second, wanted int, wait time.Duration, runs []int32) {
	m := q.moments[who]
	if m == nil {
		if len(q.moments) == maxMomentSets {
			return
		}
		m = &Moment{At: q.c.at(second), Runs: len(runs), Slots: wanted, Wait: wait}
		for _, r := range runs[:min(20, len(runs))] {
			m.Tasks = append(m.Tasks, q.list[r].ref())
		}
		q.moments[who] = m
	}
	m.Times++
	if wait > m.Wait {
		m.Wait, m.At = wait, q.c.at(second)
	}
}

func (q *queue) say(m *Moment) {
	at := m.At.In(q.c.in.Zone).Format("2006-01-02 15:04:05")
	zh := fmt.Sprintf("%s：%s 有 %d 个运行共需 %d 个名额，只有 %d 个", q.f.Key, at, m.Runs, m.Slots, q.f.Slots)
	en := fmt.Sprintf("%s: at %s %d runs want %d slots of %d", q.f.Key, at, m.Runs, m.Slots, q.f.Slots)
	if m.Times > 1 {
		zh += fmt.Sprintf("（共 %d 次）", m.Times)
		en += fmt.Sprintf(" (%d times)", m.Times)
	}
	if m.Wait > 0 {
		wait := m.Wait.Round(100 * time.Millisecond)
		zh += fmt.Sprintf("，最后一个约等 %s", wait)
		en += fmt.Sprintf("; the last waits about %s", wait)
	}
	m.Text = core.Text{Zh: zh, En: en}
}

func (q *queue) push(e ending) {
	q.running = append(q.running, e)
	for i := len(q.running) - 1; i > 0; {
		up := (i - 1) / 2
		if q.running[up].at <= q.running[i].at {
			return
		}
		q.running[up], q.running[i] = q.running[i], q.running[up]
		i = up
	}
}

func (q *queue) pop() ending {
	top, n := q.running[0], len(q.running)-1
	q.running[0] = q.running[n]
	q.running = q.running[:n]
	for i := 0; ; {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < n && q.running[child].at < q.running[least].at {
				least = child
			}
		}
		if least == i {
			return top
		}
		q.running[i], q.running[least] = q.running[least], q.running[i]
		i = least
	}
}
