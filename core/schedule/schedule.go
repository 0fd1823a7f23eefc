// Package schedule turns the text of a schedule into fire times and into words. It is pure: no clock, no I/O, no
// goroutines; the tz database it goes by is embedded (TZVersion). It is the sole owner of robfig/cron, of which it uses
// the parser of the unix dialect and nothing else. DESIGN.md holds the rules, the surprising ones first.
package schedule

import (
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Kind says what sort of schedule it is.
type Kind string

// The kinds of schedule.
const (
	Cron   Kind = "cron"   // a cron expression or a descriptor such as @hourly, in a zone
	Every  Kind = "every"  // fixed rate: anchor + n × D
	After  Kind = "after"  // fixed delay: D after the end of the last run
	At     Kind = "at"     // one instant
	List   Kind = "list"   // several instants
	Manual Kind = "manual" // only when a person or a program asks for it
)

// Values of the fields of core.Schedule.
const (
	dialectUnix     = "unix"
	dialectQuartz   = "quartz"
	onGapRunAfter   = "run_after"
	onGapSkip       = "skip"
	onOverlapFirst  = "first"
	onOverlapSecond = "second"
	onOverlapBoth   = "both"

	onDayOffSkip     = "skip"
	onDayOffNext     = "next"
	onDayOffPrevious = "previous"
)

// Values of Fire.Rule.
const (
	OnlyOn = "only_on"
	NotOn  = "not_on"
)

// Fire is an instant at which a schedule fires, or would if its calendars let it. No two fires have the same instant.
type Fire struct {
	At time.Time // in the schedule's zone, whole microseconds (whole seconds for cron)

	// Skip is why the fire must not start: ReasonNonexistent (it stands for local times that do not exist and are not made
	// up for), ReasonCalendar (the calendars refuse it and it is not moved); empty: it can start.
	Skip core.Reason

	MovedFrom time.Time // the first of the nominal instants that the calendars moved to At; zero: none was moved here
	Merged    int       // how many more nominal instants this fire stands for: others moved here, and At itself if it is one
	Calendar  string    // skipped by a calendar, or moved: the first calendar that refuses the instant (MovedFrom, else At)
	Rule      string    // what names that calendar: "only_on" (it does not contain the instant) or "not_on" (it does)
}

// Days is a set of days, or of parts of days, as calendars give it. It is an alias so that another room can hand in its
// own. Implementations are pure and safe for concurrent use.
type Days = interface {
	// Stretch says whether the set contains an instant, and since and until when that stays so: from <= at < to. A
	// stretch may be shorter than it could be, but not by much: each costs a step of a search.
	Stretch(at time.Time) (in bool, from, to time.Time)
}

// Calendars finds calendars by name. It may also have a method Names() []string, which helps people who mistype one.
type Calendars interface {
	// Days gives the days of a calendar; zone says whose days they are where the calendar itself names no zone.
	Days(name string, zone *time.Location) (Days, bool)
}

// Schedule is a parsed schedule. It does not change and is safe for concurrent use.
type Schedule struct {
	kind     Kind
	zone     *zone
	cron     *cron         // Cron
	interval time.Duration // Every and After
	anchor   time.Time     // Every; zero: the time Next is asked about
	instants []time.Time   // At and List: rising, no two the same

	lo, hi time.Time // every fire lies in (lo, hi]: the active window, or all of time
	window [2]time.Time
	jitter time.Duration
	rules  []rule // calendars: only_on, then not_on
	move   string // onDayOffNext or onDayOffPrevious; else empty
	tracks []track
	fixed  []Fire // At and List that are moved: what comes of it, rising
	moved  []landing
}

// Parse reads a schedule. name is the task's name; H in a cron expression is spread by it. calendars finds what only_on and
// not_on name, and may be nil if they name none. Everything that is wrong is reported at once, as one core.KindInvalid
// error with findings below "schedule". What starts no run at any instant from 1970 on within 400 years is refused;
// whether anything is left after some moment is for Next and NextStart to say.
func Parse(s core.Schedule, name string, calendars Calendars) (*Schedule, error) {
	p := parser{name: name, schedule: &Schedule{}}
	p.parse(s)
	p.parseWindow(s)
	p.parseCalendars(s, calendars)
	p.parseJitter(s)
	if len(p.findings) > 0 {
		op := strings.Join(strings.Fields(strings.ToValidUTF8(s.Spec, "�")), " ")
		if len(op) > 80 {
			op = strings.ToValidUTF8(op[:80], "") + "…"
		}
		return nil, core.Invalid("schedule \""+op+"\"", p.findings...)
	}
	return p.schedule, nil
}

// Kind gives the kind of schedule.
func (s *Schedule) Kind() Kind { return s.kind }

// After gives the delay of an @after schedule, counted from the end of the last run; 0 for the other kinds.
func (s *Schedule) After() time.Duration {
	if s.kind != After {
		return 0
	}
	return s.interval
}

// Location gives the zone the schedule is in, out of the embedded tz database.
func (s *Schedule) Location() *time.Location { return s.zone.loc }

// Next gives the first fire strictly after a time; ok is false if there is none, which for cron means none in 400
// years. It never goes back: a later after never gives an earlier fire. For @after it takes after to be the end of the
// last run. It costs about a tenth of a microsecond, a search through all 400 years about a tenth of a millisecond, and
// with calendars a few of their stretches.
func (s *Schedule) Next(after time.Time) (fire Fire, ok bool) {
	after = within(after)
	s = s.anchored(after)
	switch {
	case s.fixed != nil:
		i := s.fixedAfter(after)
		if i == len(s.fixed) {
			return Fire{}, false
		}
		return s.fixed[i], true
	case len(s.tracks) > 0:
		return s.movedNext(after)
	}
	fire, ok = s.plainNext(after)
	if !ok || fire.At.After(s.hi) {
		return Fire{}, false
	}
	return s.judged(fire), true
}

// Count gives the number of fires in (from, to], skipped ones among them; 0 for @after and @manual, whose fires do not
// follow from time. It costs nothing that depends on how many fires there are: a step for each month, and where fires are
// moved one for each stretch of the calendars and each run of days off.
func (s *Schedule) Count(from, to time.Time) int64 {
	s, from, to = s.between(from, to)
	switch {
	case !to.After(from):
		return 0
	case s.fixed != nil:
		return int64(s.fixedAfter(to) - s.fixedAfter(from))
	case len(s.tracks) > 0:
		return s.movedCount(from, to)
	}
	return s.plainCount(from, to)
}

// Latest gives the newest fires in (from, to] that can start, in rising order, at most limit of them; none for @after and
// @manual. It costs a step for each fire it gives and each stretch of the calendars it passes over.
func (s *Schedule) Latest(from, to time.Time, limit int) []Fire {
	s, from, to = s.between(from, to)
	if !to.After(from) || limit <= 0 {
		return nil
	}
	var fires []Fire
	switch {
	case s.fixed != nil:
		for i := s.fixedAfter(to) - 1; i >= 0 && len(fires) < limit && s.fixed[i].At.After(from); i-- {
			if s.fixed[i].Skip == "" {
				fires = append(fires, s.fixed[i])
			}
		}
	case len(s.tracks) > 0:
		fires = s.movedLatest(from, to, limit)
	default:
		fires = s.plainLatest(from, to, limit)
	}
	slices.Reverse(fires)
	return fires
}

// Final gives the last fire in (from, to], skipped ones among them; ok is false if there is none, and always for @after and
// @manual. It costs as much as a few dozen Counts at most.
func (s *Schedule) Final(from, to time.Time) (fire Fire, ok bool) {
	s, from, to = s.between(from, to)
	if !to.After(from) {
		return Fire{}, false
	}
	if s.fixed != nil {
		i := s.fixedAfter(to) - 1
		if i < 0 || !s.fixed[i].At.After(from) {
			return Fire{}, false
		}
		return s.fixed[i], true
	}
	if len(s.tracks) == 0 {
		fire, ok = s.plainPrev(from, to)
		if !ok {
			return Fire{}, false
		}
		return s.judged(fire), true
	}
	n := s.movedCount(from, to)
	if n == 0 {
		return Fire{}, false
	}
	// The last fire is at the first instant up to which there are all of them.
	span := int(to.Sub(from) / time.Microsecond)
	after := sort.Search(span, func(i int) bool { return s.movedCount(from, from.Add(time.Duration(i)*time.Microsecond)) == n })
	return s.movedNext(from.Add(time.Duration(after-1) * time.Microsecond))
}

// NextStart gives the first fire strictly after a time that can start; ok is false if there is none in 400 years, or
// none before the calendars have refused 50,000 stretches of time.
func (s *Schedule) NextStart(after time.Time) (Fire, bool) {
	after = within(after)
	s = s.anchored(after)
	if s.fixed != nil {
		for _, fire := range s.fixed[s.fixedAfter(after):] {
			if fire.Skip == "" {
				return fire, true
			}
		}
		return Fire{}, false
	}
	if len(s.tracks) > 0 {
		return s.movedStart(after)
	}
	return s.plainStart(after)
}

// FireOf gives the fire exactly at an instant; ok is false if there is none, and always for @after and @manual.
func (s *Schedule) FireOf(at time.Time) (fire Fire, ok bool) {
	if s.kind == After || s.kind == Manual {
		return Fire{}, false
	}
	fire, ok = s.Next(at.Add(-time.Microsecond))
	if !ok || !fire.At.Equal(at) {
		return Fire{}, false
	}
	return fire, true
}

// Nominal says whether an instant is one that the schedule names and its calendars moved to another, and to which. Such
// an instant has no fire of its own.
func (s *Schedule) Nominal(at time.Time) (movedTo time.Time, ok bool) {
	if s.fixed != nil {
		i := sort.Search(len(s.moved), func(i int) bool { return !s.moved[i].from.Before(at) })
		if i < len(s.moved) && s.moved[i].from.Equal(at) {
			return s.moved[i].to, true
		}
		return time.Time{}, false
	}
	return s.movedTo(at)
}

// Judge gives the fire of an instant that is known to be nominal, with Skip set if the calendars refuse it. It is for
// fires that do not follow from time: the scheduler asks it about the instant of an @after schedule that has come.
func (s *Schedule) Judge(at time.Time) Fire { return s.judged(Fire{At: at.In(s.zone.loc)}) }

// within keeps a time inside the years 1 to 9999, which RFC 3339 can write and arithmetic in microseconds can hold.
func within(t time.Time) time.Time {
	switch {
	case t.Before(time.Time{}):
		return time.Time{}
	case t.After(endOfTime):
		return endOfTime
	}
	return t
}

var endOfTime = time.Unix(endSec, 999999999)

// parser gathers the schedule and what is wrong with it.
type parser struct {
	name     string
	schedule *Schedule
	findings []core.Finding
}

// refuse notes one thing wrong with a field of core.Schedule; args fill both texts alike.
func (p *parser) refuse(field, zh, en string, args ...any) {
	p.findings = append(p.findings, core.Finding{Path: "schedule." + field, Message: text(zh, en, args...)})
}

const maxSpec = 64 << 10 // bytes; room for a @list of 1,000 instants twice over

func (p *parser) parse(s core.Schedule) {
	if !slices.Contains([]string{"", dialectUnix, dialectQuartz}, s.Dialect) {
		p.refuse("dialect", "没有方言 %q；请写 unix 或 quartz", "there is no dialect %q; write unix or quartz", s.Dialect)
	}
	if !slices.Contains([]string{"", onGapRunAfter, onGapSkip}, s.OnGap) {
		p.refuse("on_gap", "%q 不是可选值；请写 run_after（时钟跳过的时刻随后补跑）或 skip（跳过）",
			"%q is not a choice; write run_after (make up for a time the clock leaves out) or skip", s.OnGap)
	}
	if !slices.Contains([]string{"", onOverlapFirst, onOverlapSecond, onOverlapBoth}, s.OnOverlap) {
		p.refuse("on_overlap", "%q 不是可选值；请写 first（重复的时刻只取第一次）、second（只取第二次）或 both（两次都跑）",
			"%q is not a choice; write first, second or both (which instants of a local time that comes twice)", s.OnOverlap)
	}
	p.schedule.zone, _ = findZone("")
	if len(s.Spec) > maxSpec {
		p.refuse("spec", "长度超过 %d 字节；请拆成几个任务", "is longer than %d bytes; split it into several tasks", maxSpec)
		return
	}
	spec, zoneName := p.takeZone(strings.TrimSpace(s.Spec), s.Zone)
	zone, ok := findZone(zoneName)
	if !ok {
		p.refuseZone(zoneName, s.Zone == "")
		zone = p.schedule.zone
	}
	p.schedule.zone = zone
	switch {
	case spec == "":
		if len(p.findings) == 0 {
			p.refuse("spec", "不能为空；例如 \"30 2 * * *\"（每天 02:30）、\"@every 90s\"，或 \"@manual\"（仅手动）",
				"is empty; write for example \"30 2 * * *\" (every day at 02:30), \"@every 90s\", or \"@manual\"")
		}
	case spec[0] == '@':
		p.parseAt(s, spec)
	default:
		p.parseCron(s, spec)
	}
}

// takeZone takes a CRON_TZ= or TZ= prefix off the spec, so that it never reaches robfig's parser, which panics on some.
func (p *parser) takeZone(spec, zone string) (rest, name string) {
	if !strings.Contains(spec, "TZ=") {
		return spec, zone
	}
	first := strings.Fields(spec)[0]
	rest = strings.TrimSpace(spec[len(first):])
	prefix, name, _ := strings.Cut(first, "=")
	switch {
	case prefix != "CRON_TZ" && prefix != "TZ" || strings.Contains(name, "=") || strings.Contains(rest, "TZ="):
		p.refuse("spec", "时区只能在开头写一次，形如 \"CRON_TZ=Asia/Shanghai 30 2 * * *\"；或改用 zone 字段",
			"names a zone wrongly; write it once, at the beginning: \"CRON_TZ=Asia/Shanghai 30 2 * * *\", or use the field zone")
		return "", zone
	case name == "":
		p.refuse("spec", "%s= 后面缺少时区名；请写成 %s=Asia/Shanghai", "has no zone after %s=; write %s=Asia/Shanghai", prefix, prefix)
		return "", zone
	case rest == "":
		p.refuse("spec", "只有时区，没有时间；请写成 \"%s 30 2 * * *\"", "has a zone but no times; write \"%s 30 2 * * *\"", first)
		return "", zone
	case zone != "" && zone != name:
		p.refuse("zone", "字段 zone 是 %[1]s，而 spec 开头写着 %[2]s；请只留一个",
			"is %[1]s, but the spec begins with %[2]s; keep only one of them", zone, first)
	}
	return rest, name
}

func (p *parser) refuseZone(name string, inSpec bool) {
	field := "zone"
	if inSpec {
		field = "spec"
	}
	like := strings.Join(likeZones(name), ", ")
	if like == "" {
		p.refuse(field, "没有时区 %q（tz 数据库 %s）；请写 IANA 名称，如 Asia/Shanghai、Europe/Berlin 或 UTC",
			"there is no zone %q (tz database %s); write an IANA name such as Asia/Shanghai, Europe/Berlin or UTC", name, TZVersion())
		return
	}
	p.refuse(field, "没有时区 %q（tz 数据库 %s）；是否指 %s？",
		"there is no zone %q (tz database %s); did you mean %s?", name, TZVersion(), like)
}

// descriptors are the short names of cron expressions. They are unix in any dialect.
var descriptors = map[string]string{
	"@hourly":   "0 * * * *",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@weekly":   "0 0 * * 0",
	"@monthly":  "0 0 1 * *",
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
}

// parseAt reads what begins with @.
func (p *parser) parseAt(s core.Schedule, spec string) {
	words := strings.Fields(spec)
	word, args := strings.ToLower(words[0]), words[1:]
	if cron, ok := descriptors[word]; ok && len(args) == 0 {
		s.Dialect = dialectUnix
		p.parseCron(s, cron)
		return
	}
	switch word {
	case "@every", "@after":
		p.parseInterval(s, word, args)
	case "@at", "@list":
		p.parseInstants(word, args)
	case "@manual":
		p.schedule.kind = Manual
		if len(args) > 0 {
			p.refuse("spec", "@manual 后面不能再写内容", "takes nothing after @manual")
		}
	case "@reboot":
		p.refuse("spec", "@reboot 不受支持：重启服务器不应触发任务；请写明时间，或用 @manual",
			"@reboot is not supported: a restart of the server fires nothing; give times, or use @manual")
	default:
		if descriptors[word] != "" {
			p.refuse("spec", "%s 后面不能再写内容", "takes nothing after %s", word)
			return
		}
		p.refuse("spec", "不认识 %q；可用 @hourly、@daily、@weekly、@monthly、@yearly、@every 90s、@after 10m、@at 时刻、@list 时刻…、@manual",
			"%q is not known; use @hourly, @daily, @weekly, @monthly, @yearly, @every 90s, @after 10m, @at INSTANT, @list INSTANT…, @manual", words[0])
	}
}

// durations is the form of a duration, whatever its size.
var durations = regexp.MustCompile(`^\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`)

func (p *parser) parseInterval(s core.Schedule, word string, args []string) {
	p.schedule.kind = Every
	if word == "@after" {
		p.schedule.kind = After
	}
	if len(args) != 1 {
		p.refuse("spec", "%[1]s 后面要写一个时长，如 \"%[1]s 90s\" 或 \"%[1]s 1h30m\"",
			"%[1]s takes one duration: \"%[1]s 90s\" or \"%[1]s 1h30m\"", word)
		return
	}
	d, err := time.ParseDuration(args[0])
	switch {
	case err != nil && durations.MatchString(args[0]):
		p.refuse("spec", "时长 %s 太长；最长 2562047h", "the duration %s is too long; the longest is 2562047h", args[0])
	case err != nil:
		p.refuse("spec", "%q 不是时长；请写 90s、15m、1h30m 等（没有“天”：一天写 24h，按当地时间每天一次请用 cron）",
			"%q is not a duration; write 90s, 15m, 1h30m (there are no days: write 24h, or use cron for once per local day)", args[0])
	case d < time.Second:
		p.refuse("spec", "时长 %s 太短；最短 1s", "the duration %s is too short; the shortest is 1s", args[0])
	case d%time.Millisecond != 0:
		p.refuse("spec", "时长 %s 必须是整毫秒", "the duration %s must be whole milliseconds", args[0])
	}
	p.schedule.interval = d
	if word == "@every" {
		p.schedule.anchor = s.Anchor
	}
}

const maxInstants = 1000

func (p *parser) parseInstants(word string, args []string) {
	p.schedule.kind = At
	if word == "@list" {
		p.schedule.kind = List
		args = strings.FieldsFunc(strings.Join(args, " "), func(r rune) bool { return r == ' ' || r == ',' })
	}
	switch n := len(args); {
	case n == 0, word == "@at" && n > 1:
		p.refuse("spec", "@at 要写一个时刻，@list 要写至少一个；如 \"@at 2026-12-01T08:00:00+08:00\"",
			"@at takes one instant and @list at least one: \"@at 2026-12-01T08:00:00+08:00\"")
		return
	case n > maxInstants:
		p.refuse("spec", "@list 有 %d 个时刻，最多 %d 个；请拆成几个任务", "@list has %d instants, the most is %d; split it", n, maxInstants)
		return
	}
	seen := make(map[int64]int, len(args))
	for i, arg := range args {
		t, err := time.Parse(time.RFC3339Nano, strings.ToUpper(arg))
		if err != nil {
			p.refuse("spec", "第 %d 个时刻 %q 读不懂；请写带时差的 RFC 3339，如 2026-12-01T08:00:00+08:00 或 …Z",
				"instant %d, %q, cannot be read; write RFC 3339 with an offset: 2026-12-01T08:00:00+08:00 or …Z", i+1, arg)
			continue
		}
		if t.Nanosecond()%1000 != 0 {
			p.refuse("spec", "第 %d 个时刻 %q 比微秒还细；请写到微秒为止", "instant %d, %q, is finer than a microsecond; round it", i+1, arg)
			continue
		}
		if first, ok := seen[t.UnixMicro()]; ok {
			p.refuse("spec", "第 %d 个和第 %d 个时刻相同（%s）；请去掉一个", "instants %d and %d are the same (%s); remove one", first, i+1, arg)
			continue
		}
		seen[t.UnixMicro()] = i + 1
		p.schedule.instants = append(p.schedule.instants, t.In(p.schedule.zone.loc))
	}
	slices.SortFunc(p.schedule.instants, time.Time.Compare)
}
