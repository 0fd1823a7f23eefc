package forecast

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// Rules say what a spread may move.
type Rules struct {
	Within     time.Duration        // no fire is moved by more; whole minutes, at most 59
	Namespaces []string             // only tasks of these; nil: of all
	Keep       func(task Task) bool // tasks that stay where they are; nil: none
	// Plan reads a changed schedule. A move is proposed only if the new schedule has the same fires, each moved by as
	// much: calendars and the clock may see it otherwise. nil: it is not looked at.
	Plan func(task Task, changed core.Schedule) (*schedule.Schedule, error)
}

// Proposal is how fires could be moved apart.
type Proposal struct {
	Moves  []Move // by namespace and name
	Kept   []Kept // tasks that collide and stay where they are, by namespace and name
	Before Crowd
	After  Crowd
}

// Crowd says how full the fullest minute is. Tasks that fire in every third minute or more often are not in it, and
// what one fire brings in one minute starts as one.
type Crowd struct {
	Fires     int64
	Starts    int // most that start in one minute
	StartsAt  time.Time
	Peak      int // most that run in one minute
	PeakAt    time.Time
	Colliding int // minutes in which more than one starts
}

// Move is a schedule with its minute moved.
type Move struct {
	Task     Ref
	FromSpec string
	ToSpec   string
	By       time.Duration
	Why      core.Text
}

// Kept is a task that collides and is not moved.
type Kept struct {
	Task Ref
	Why  core.Text
}

const (
	passes = 3
	often  = 3 // minutes: a task that fires more often than each third collides with everything and is left out of it
)

// piece is a schedule on the board, with all that its fires bring: where it is moved, they are.
type piece struct {
	*drawn
	family  []*drawn // it and what it brings
	minutes []int32  // in which any of them starts, where it stood, rising, each once
	spec    spec
	movable bool
	why     core.Text // why it is not moved
	by      int       // minutes it has been moved
	refused []int     // moves that Rules.Plan has refused
	bounds  []bound
	room    room
}

// bound keeps the order of two tasks: by of the later minus by of the earlier must be at least least.
type bound struct {
	other *piece
	later bool // this piece is the later one
	least int
}

// board is how many start, and how many run, in each minute.
type board struct {
	starts []int32
	runs   []int32
}

// Spread proposes other minutes for tasks that start together. A task keeps its hour: "0 9 * * *" may become "4 9 * * *",
// "0 * * * *" any minute. The orders of the input are kept. Same input, same proposal.
func Spread(in Input, rules Rules) Proposal {
	c := draw(in)
	b := &board{starts: make([]int32, c.minutes), runs: make([]int32, c.minutes)}
	pieces := c.pieces(rules)
	for _, p := range pieces {
		c.put(b, p, 1)
	}
	proposal := Proposal{Before: c.crowd(b, pieces)}
	within := int(min(59*time.Minute, max(0, rules.Within)) / time.Minute)
	bind(pieces, in.Order)

	// Those that fire most go first: wherever they stand they meet everybody, and one of them that moves saves many others.
	order := slices.Clone(pieces)
	slices.SortStableFunc(order, func(a, b *piece) int {
		return cmp.Or(cmp.Compare(len(b.minutes), len(a.minutes)), cmp.Compare(c.length(b.drawn), c.length(a.drawn)),
			strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	reasons := map[*piece]core.Text{}
	for range passes {
		changed := false
		for _, p := range order {
			if !p.movable || within == 0 || !b.collides(p) {
				continue
			}
			if _, known := reasons[p]; !known {
				reasons[p] = c.reason(b, p, pieces)
			}
			changed = c.move(b, p, within, rules) || changed
		}
		if !changed {
			break
		}
	}
	proposal.After = c.crowd(b, pieces)
	for _, p := range pieces {
		switch {
		case p.by != 0:
			to, _ := p.spec.moved(p.by)
			proposal.Moves = append(proposal.Moves, Move{Task: p.ref(), FromSpec: p.Schedule.Spec, ToSpec: to, By: time.Duration(p.by) * time.Minute, Why: reasons[p]})
		case b.collides(p):
			if p.movable {
				p.why = core.Text{Zh: fmt.Sprintf("前后 %d 分钟内没有更空的分钟", within), En: fmt.Sprintf("there is no emptier minute within %d minutes", within)}
				if of := p.room.of; of != nil && (p.room.least > -within || p.room.most < within) {
					p.why.Zh += fmt.Sprintf("（须守住 %s 的 sla.finish_by %s）", of.Name, of.FinishBy)
					p.why.En += fmt.Sprintf(" that keeps sla.finish_by %s of %s", of.FinishBy, of.Name)
				}
			}
			proposal.Kept = append(proposal.Kept, Kept{p.ref(), p.why})
		}
	}
	byName := func(a, b Ref) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	}
	slices.SortFunc(proposal.Moves, func(a, b Move) int { return byName(a.Task, b.Task) })
	slices.SortFunc(proposal.Kept, func(a, b Kept) int { return byName(a.Task, b.Task) })
	return proposal
}

// pieces gives the schedules that stand on the board.
func (c *canvas) pieces(rules Rules) []*piece {
	var list []*piece
	for n := 0; n < len(c.tasks); {
		family := c.tasks[n:]
		if end := slices.IndexFunc(family, func(d *drawn) bool { return d.root != family[0].root }); end > 0 {
			family = family[:end]
		}
		n += len(family)
		d := family[0].root
		if d.counted || len(d.offs)*often > c.minutes {
			continue
		}
		p := &piece{drawn: d, family: family}
		for _, d := range family {
			for _, off := range d.offs {
				p.minutes = append(p.minutes, off/60)
			}
		}
		slices.Sort(p.minutes)
		p.minutes = slices.Compact(p.minutes)
		switch {
		case rules.Namespaces != nil && !slices.Contains(rules.Namespaces, d.Namespace):
			p.why = core.Text{Zh: "属于别的命名空间", En: "it is of another namespace"}
		case rules.Keep != nil && rules.Keep(*d.Task):
			p.why = core.Text{Zh: "按要求保持不动", En: "it is to stay where it is"}
		case d.Schedule.Jitter > 0:
			p.why = core.Text{Zh: "已用 jitter 错开", En: "its jitter spreads it already"}
		default:
			p.spec, p.why = readSpec(d.Schedule)
			if p.movable = p.why == (core.Text{}); p.movable {
				p.room = c.room(family)
			}
		}
		list = append(list, p)
	}
	return list
}

// bind turns orders into bounds. How far apart two tasks stand is the least time from a fire of the earlier to the next
// of the later; where that is less than the gap already, it must not become less.
func bind(pieces []*piece, orders []Order) {
	byID := map[string]*piece{}
	for _, p := range pieces {
		byID[p.ID] = p
	}
	for _, o := range orders {
		earlier, later := byID[o.Before], byID[o.After]
		if earlier == nil || later == nil || earlier == later {
			continue
		}
		apart, known := int64(0), false
		for _, off := range later.offs {
			i, same := slices.BinarySearch(earlier.offs, off)
			if !same {
				i--
			}
			if i < 0 {
				continue
			}
			if d := int64(off - earlier.offs[i]); !known || d < apart {
				apart, known = d, true
			}
		}
		if !known {
			continue
		}
		least := min(int64(o.Gap/time.Second), apart) - apart
		minutes := int(-((-least) / 60)) // not up to a minute closer than allowed
		earlier.bounds = append(earlier.bounds, bound{later, false, minutes})
		later.bounds = append(later.bounds, bound{earlier, true, minutes})
	}
}

func (p *piece) allowed(by int) bool {
	if by != 0 && (by < p.room.least || by > p.room.most) {
		return false
	}
	for _, b := range p.bounds {
		apart := b.other.by - by
		if b.later {
			apart = by - b.other.by
		}
		if apart < b.least {
			return false
		}
	}
	return true
}

// length gives how many minutes a run takes.
func (c *canvas) length(d *drawn) int32 {
	return int32(min(int64(c.minutes), max(1, int64((d.took+time.Minute-1)/time.Minute))))
}

// put places a piece, or takes it away with n -1.
func (c *canvas) put(b *board, p *piece, n int32) {
	for _, m := range p.minutes {
		if at := int(m) + p.by; at >= 0 && at < len(b.starts) {
			b.starts[at] += n
		}
	}
	for _, d := range p.family {
		length := c.length(d)
		for _, off := range d.offs {
			at := off/60 + int32(p.by)
			if at < 0 {
				continue
			}
			for i := at; i < at+length && int(i) < len(b.runs); i++ {
				b.runs[i] += n
			}
		}
	}
}

func (b *board) collides(p *piece) bool {
	for _, m := range p.minutes {
		if at := int(m) + p.by; at >= 0 && at < len(b.starts) && b.starts[at] > 1 {
			return true
		}
	}
	return false
}

// cost is what a piece meets at a place; the first that differs counts.
type cost [6]int64

func (b *board) cost(p *piece, by int) (c cost) {
	for _, m := range p.minutes {
		at := int(m) + by
		if at < 0 || at >= len(b.starts) {
			continue
		}
		c[0] = max(c[0], int64(b.starts[at]))
		c[1] += int64(b.starts[at])
		c[2] = max(c[2], int64(b.runs[at]))
		c[3] += int64(b.runs[at])
	}
	c[4] = int64(max(by, -by))
	if by < 0 {
		c[5] = 1
	}
	return c
}

// move puts a piece where it meets least, if that is better than where it stands.
func (c *canvas) move(b *board, p *piece, within int, rules Rules) bool {
	c.put(b, p, -1)
	defer func() { c.put(b, p, 1) }()
	for {
		here := b.cost(p, p.by)
		best, by := here, p.by
		for candidate := -within; candidate <= within; candidate++ {
			if _, ok := p.spec.moved(candidate); !ok || !p.allowed(candidate) || slices.Contains(p.refused, candidate) {
				continue
			}
			if there := b.cost(p, candidate); slices.Compare(there[:], best[:]) < 0 {
				best, by = there, candidate
			}
		}
		if by == p.by || slices.Compare(best[:2], here[:2]) >= 0 {
			return false // a move that spares no collision is not worth a changed schedule
		}
		if by == 0 || c.keeps(p, by, rules) {
			p.by = by
			return true
		}
		p.refused = append(p.refused, by)
	}
}

// keeps says whether a moved schedule has the fires it had, each moved by as much.
func (c *canvas) keeps(p *piece, by int, rules Rules) bool {
	if rules.Plan == nil {
		return true
	}
	changed := p.Schedule
	changed.Spec, _ = p.spec.moved(by)
	plan, err := rules.Plan(*p.Task, changed)
	if err != nil {
		return false
	}
	shift := time.Duration(by) * time.Minute
	pattern := pattern{plan: plan, rest: rest{ends: p.rest.ends, first: p.rest.first.Add(shift), last: p.rest.last.Add(shift)}}
	edge := canvas{in: c.in, from: c.from.Add(shift)}
	edge.draw(&pattern, c.report.To.Add(shift))
	moved := drawn{Task: p.Task, offs: pattern.offs}
	edge.pause(&moved)
	return slices.Equal(moved.offs, p.offs) && c.keepsLast(p, plan, shift)
}

// keepsLast says whether a moved schedule has the last fire of an active window that reaches beyond the time looked at.
func (c *canvas) keepsLast(p *piece, plan *schedule.Schedule, shift time.Duration) bool {
	until := p.Schedule.Until
	if !until.After(c.report.To) {
		return true
	}
	was, one := p.Plan.Final(c.report.To, until)
	is, other := plan.Final(c.report.To.Add(shift), until)
	return one == other && (!one || is.At.Equal(was.At.Add(shift)))
}

// reason says what a task runs into where it stands, in its fullest minute.
func (c *canvas) reason(b *board, p *piece, pieces []*piece) core.Text {
	worst := -1
	for _, m := range p.minutes {
		if at := int(m) + p.by; at >= 0 && at < len(b.starts) && (worst < 0 || b.starts[at] > b.starts[worst]) {
			worst = at
		}
	}
	var others []string
	for _, o := range pieces {
		if len(others) == maxNamed {
			break
		}
		if _, there := slices.BinarySearch(o.minutes, int32(worst-o.by)); there && o != p {
			others = append(others, o.Namespace+"/"+o.Name)
		}
	}
	n, at := int(b.starts[worst])-1, c.at(worst*60).In(c.in.Zone).Format("2006-01-02 15:04")
	zhWho, enWho := "", "it starts"
	if !slices.ContainsFunc(p.offs, func(off int32) bool { return int(off/60)+p.by == worst }) {
		zhWho, enWho = "它引起的运行", "what it brings starts"
	}
	zh := fmt.Sprintf("在 %s %s与另外 %d 个同时启动：%s", at, zhWho, n, strings.Join(others, "、"))
	en := fmt.Sprintf("at %s %s together with %d others: %s", at, enWho, n, strings.Join(others, ", "))
	if n == 1 {
		en = fmt.Sprintf("at %s %s together with %s", at, enWho, strings.Join(others, ", "))
	}
	if n > len(others) {
		zh, en = zh+" 等", en+", …"
	}
	return core.Text{Zh: zh, En: en}
}

// maxNamed is how many other tasks a reason names.
const maxNamed = 3

func (c *canvas) crowd(b *board, pieces []*piece) Crowd {
	var crowd Crowd
	for _, p := range pieces {
		for _, d := range p.family {
			crowd.Fires += int64(len(d.offs))
		}
	}
	for i := range b.starts {
		if n := int(b.starts[i]); n > crowd.Starts {
			crowd.Starts, crowd.StartsAt = n, c.at(i*60)
		}
		if n := int(b.runs[i]); n > crowd.Peak {
			crowd.Peak, crowd.PeakAt = n, c.at(i*60)
		}
		if b.starts[i] > 1 {
			crowd.Colliding++
		}
	}
	return crowd
}
