package schedule

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// What a schedule has beside its spec: the active window, calendars, jitter.

const maxJitter = 24 * time.Hour

// parseWindow reads from and until. Instants are whole microseconds, so a limit that is finer is rounded up.
func (p *parser) parseWindow(s core.Schedule) {
	p.schedule.lo, p.schedule.hi = time.Time{}, endOfTime
	p.schedule.window = [2]time.Time{s.From, s.Until}
	before := func(t time.Time) time.Time {
		return within(t).Add(time.Microsecond - 1).Truncate(time.Microsecond).Add(-time.Microsecond)
	}
	if !s.From.IsZero() {
		p.schedule.lo = before(s.From)
	}
	if !s.Until.IsZero() {
		p.schedule.hi = before(s.Until)
	}
	if !s.From.IsZero() && !s.Until.IsZero() && !s.Until.After(s.From) {
		p.refuse("until", "%s 不晚于 from（%s）；请让 until 晚于 from，或去掉其中一个",
			"is %s, which is not after from (%s); set it after from, or leave one of them out", rfc(s.Until), rfc(s.From))
	}
}

func rfc(t time.Time) string { return t.Format(time.RFC3339Nano) }

// parseCalendars reads only_on, not_on and on_day_off, and refuses what then starts no run at all.
func (p *parser) parseCalendars(s core.Schedule, calendars Calendars) {
	seen := make(map[string]string)
	p.takeRules(calendars, OnlyOn, s.OnlyOn, seen)
	p.takeRules(calendars, NotOn, s.NotOn, seen)
	switch s.OnDayOff {
	case "", onDayOffSkip:
	case onDayOffNext, onDayOffPrevious:
		if !s.HasCalendars() {
			p.refuse("on_day_off", "是 %s，但没有写 only_on 或 not_on，所以没有休息日；请写上日历，或去掉 on_day_off",
				"is %s, but neither only_on nor not_on names a calendar, so that no day is off; name one, or leave on_day_off out", s.OnDayOff)
		} else if len(p.findings) == 0 {
			p.parseMove(s.OnDayOff)
		}
	default:
		p.refuse("on_day_off", "%q 不是可选值；请写 skip（跳过）、next（顺延到下一个允许的日子）或 previous（提前到上一个）",
			"%q is not a choice; write skip, next (move to the next day that the calendars allow) or previous", s.OnDayOff)
	}
	if len(p.findings) == 0 {
		p.requireStart(s)
	}
}

// takeRules looks up the calendars of one field.
func (p *parser) takeRules(calendars Calendars, field string, names []string, seen map[string]string) {
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch before, again := seen[name]; {
		case again && strings.HasPrefix(before, field):
			p.refuse(at, "日历 %q 在 %s 已写过；请去掉一个", "names %q, as %s does; remove one", name, before)
			continue
		case again:
			p.refuse(at, "日历 %q 也在 %s 里，这样任何日子都不允许；请去掉一个",
				"names %q, as %s does, so that no day is left; remove one", name, before)
			continue
		}
		seen[name] = at
		var days Days
		known := false
		if calendars != nil {
			days, known = calendars.Days(name, p.schedule.zone.loc)
		}
		if known {
			p.schedule.rules = append(p.schedule.rules, rule{name: name, days: days, not: field == NotOn})
			continue
		}
		var all []string
		if lister, ok := calendars.(interface{ Names() []string }); ok {
			all = lister.Names()
		}
		if like := likeNames(name, all); len(like) > 0 {
			p.refuse(at, "没有日历 %q；是否指 %s？", "there is no calendar %q; did you mean %s?", name, strings.Join(like, ", "))
			continue
		}
		p.refuse(at, "没有日历 %q；请先定义它，或用 cn-workdays、cn-holidays、weekdays、weekends",
			"there is no calendar %q; define it first, or use cn-workdays, cn-holidays, weekdays or weekends", name)
	}
}

// likeNames gives up to three names of a list that a person may have meant.
func likeNames(name string, all []string) []string {
	var like []string
	for _, known := range all {
		if editDistance(strings.ToLower(name), strings.ToLower(known)) <= 2 {
			like = append(like, known)
		}
	}
	slices.Sort(like)
	return like[:min(3, len(like))]
}

// parseMove makes the tracks of a schedule whose days off are moved, and refuses one that has no times of day to keep.
func (p *parser) parseMove(move string) {
	s := p.schedule
	const instead = "；请用 skip，或改写 spec"
	const insteadEn = "; use skip, or write another spec"
	switch s.kind {
	case Cron:
		if n := s.cron.perDay(); n > maxADay {
			p.refuse("on_day_off", "是 %s，但一天触发 %d 次，多于 %d 次，挪到另一天没有意义"+instead,
				"is %s, but with %d fires a day, more than %d, there is no sense in moving them to another day"+insteadEn, move, n, maxADay)
			return
		}
		s.move, s.tracks = move, cronTracks(s.cron)
	case Every:
		if s.interval%(24*time.Hour) != 0 {
			p.refuse("on_day_off", "是 %s，但 @every %s 不是整天数，没有固定的时刻可以保留；请写 24h 的整数倍，或用 cron，或用 skip",
				"is %s, but @every %s is not a whole number of days and so has no time of day to keep; write a multiple of 24h, use cron, or skip", move, s.interval)
			return
		}
		s.move, s.tracks = move, []track{everyTrack(s.anchor, s.interval)}
	case At, List:
		s.move = move
		s.fix()
	default:
		p.refuse("on_day_off", "是 %s，但这种计划（%s）的时刻不由日期决定，无法挪动"+instead,
			"is %s, but the instants of this kind of schedule (@%s) do not follow from dates and cannot be moved"+insteadEn, move, s.kind)
	}
}

// requireStart refuses a schedule with a window or calendars that never starts a run.
func (p *parser) requireStart(s core.Schedule) {
	unlimited := s.From.IsZero() && s.Until.IsZero()
	if unlimited && len(p.schedule.rules) == 0 || p.schedule.kind == Manual {
		return
	}
	from := latest(beginning, p.schedule.lo)
	switch p.schedule.kind {
	case Every:
		from = latest(from, p.schedule.anchor)
	case At, List:
		from = latest(p.schedule.lo, p.schedule.instants[0].Add(-time.Microsecond))
	}
	if p.schedule.kind == After { // any instant may be one
		p.requireMoment(from)
		return
	}
	if !unlimited {
		if fire, ok := p.schedule.plainNext(from); !ok || fire.At.After(p.schedule.hi) {
			p.refuse(windowField(s), "在 from 与 until 之间没有任何触发时刻；请放宽这段时间，或检查 spec",
				"the window from … until leaves no instant at which the schedule fires; widen it, or check the spec")
			return
		}
	}
	if len(p.schedule.rules) == 0 {
		return
	}
	if _, ok := p.schedule.anchored(from).plainStart(from); ok { // the quick way; what is only ever moved takes the other
		return
	}
	if _, ok := p.schedule.NextStart(from); !ok {
		p.refuseNoDay()
	}
}

// requireMoment refuses calendars that allow no moment at all.
func (p *parser) requireMoment(from time.Time) {
	at := latest(from, beginning).Add(time.Microsecond)
	for range maxSteps {
		v := p.schedule.look(at)
		if v.refuses == nil {
			return
		}
		if at = v.to; at.After(p.schedule.hi) || at.Unix() > beginning.Unix()+2*horizon {
			break
		}
	}
	p.refuseNoDay()
}

func (p *parser) refuseNoDay() {
	field := OnlyOn
	if p.schedule.rules[0].not {
		field = NotOn
	}
	var said []string
	for _, r := range p.schedule.rules {
		name, rule := r.told()
		said = append(said, rule+" "+name)
	}
	p.refuse(field, "这些日历合在一起（%s）不给这个计划留下任何一天；请去掉其中一个，或检查日历的定义",
		"the calendars together (%s) leave no day on which this schedule may fire; remove one, or check what they contain", strings.Join(said, ", "))
}

func windowField(s core.Schedule) string {
	if s.Until.IsZero() {
		return "from"
	}
	return "until"
}

// parseJitter reads jitter. It changes no fire: the runner starts each one later by Jitter.
func (p *parser) parseJitter(s core.Schedule) {
	if s.Jitter == 0 {
		return
	}
	switch kind := p.schedule.kind; {
	case s.Jitter < 0:
		p.refuse("jitter", "是 %s；不能是负数", "is %s; it cannot be negative", s.Jitter)
		return
	case s.Jitter > maxJitter:
		p.refuse("jitter", "是 %s；最多 24h", "is %s; the most is 24h", s.Jitter)
		return
	case kind == After, kind == Manual:
		p.refuse("jitter", "对 @%s 没有意义，它的触发不在固定时刻；请去掉 jitter",
			"makes no sense with @%s, which does not fire at set instants; leave it out", kind)
		return
	}
	if len(p.findings) > 0 {
		return
	}
	p.schedule.jitter = s.Jitter
	if usual := p.schedule.rhythm(); usual > 0 && s.Jitter > usual/2 {
		p.refuse("jitter", "是 %s，超过两次触发之间最短间隔（%s）的一半，会打乱先后；请写 %s 以内",
			"is %s, more than half of the shortest time between two fires (%s), so that their order would be lost; write at most %s",
			s.Jitter, usual, usual/2)
	}
}

// rhythm gives the shortest usual time between two fires, as the spec says it and without changes of the clock; 0 if
// there is no second one.
func (s *Schedule) rhythm() time.Duration {
	least := time.Duration(0)
	take := func(d time.Duration) {
		if least == 0 || d < least {
			least = d
		}
	}
	switch s.kind {
	case Every:
		return s.interval
	case List:
		for i := 1; i < len(s.instants); i++ {
			take(s.instants[i].Sub(s.instants[i-1]))
		}
	case Cron:
		const days = 40 // enough to see weeks and months
		limit := beginning.Unix() + horizon
		at := s.cron.nextMatch(dayNumber(2024, 1, 1)*daySeconds, limit)
		if at == never { // a year that has passed
			at = s.cron.nextMatch(beginning.Unix(), limit)
		}
		for range int(min(s.cron.perDay(), daySeconds)) + days {
			next := s.cron.nextMatch(at+1, limit)
			if next == never || at == never {
				break
			}
			take(time.Duration(next-at) * time.Second)
			if at = next; least == time.Second {
				break
			}
		}
	}
	return least
}
