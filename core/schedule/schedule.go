// Package schedule turns the text of a schedule into fire times and into words. It is pure: no clock, no I/O, no
// goroutines; the tz database it goes by is embedded (TZVersion). It is the sole owner of robfig/cron, of which it uses
// the parser of the unix dialect and nothing else. DESIGN.md holds the rules, the surprising ones first.
package schedule

import (
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
)

// Fire is a nominal instant of a schedule.
type Fire struct {
	At   time.Time   // in the schedule's zone, whole microseconds (whole seconds for cron)
	Skip core.Reason // ReasonNonexistent: stands for local times that do not exist and are not made up for; else empty
}

// Schedule is a parsed schedule. It does not change and is safe for concurrent use.
type Schedule struct {
	kind     Kind
	zone     *zone
	cron     *cron         // Cron
	interval time.Duration // Every and After
	anchor   time.Time     // Every; zero: the time Next is asked about
	instants []time.Time   // At and List: rising, no two the same
}

// Parse reads a schedule. name is the task's name; H in a cron expression is spread by it. Everything that is wrong is
// reported at once, as one core.KindInvalid error with findings below "schedule". A cron expression that matches no
// instant from 1970 on within 400 years is refused; whether anything is left after some moment is for Next to say.
func Parse(s core.Schedule, name string) (*Schedule, error) {
	p := parser{name: name, schedule: &Schedule{}}
	p.parse(s)
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
// last run. It costs about a tenth of a microsecond, a search through all 400 years about a tenth of a millisecond.
func (s *Schedule) Next(after time.Time) (fire Fire, ok bool) {
	after = within(after)
	switch s.kind {
	case Cron:
		return s.cron.next(after)
	case Every:
		a, d := s.ticks(after)
		return s.micro(a + (max(0, floorDiv(after.UnixMicro()-a, d))+1)*d)
	case After:
		return s.micro(after.UnixMicro() + s.interval.Microseconds())
	case At, List:
		i := sort.Search(len(s.instants), func(i int) bool { return s.instants[i].After(after) })
		if i < len(s.instants) {
			return Fire{At: s.instants[i]}, true
		}
	}
	return Fire{}, false
}

// Last gives the last fire in (from, to] that can start, and the number of fires, skipped ones among them, from from up
// to and including it. If none in the range can start but some are skipped, it gives the last of those and their
// number. ok is false if there is no fire in the range, and always for @after and @manual, whose fires do not follow
// from time. It costs nothing that depends on how many fires there are: a step for each month of the range at most.
func (s *Schedule) Last(from, to time.Time) (last Fire, count int64, ok bool) {
	from, to = within(from), within(to)
	if !to.After(from) {
		return Fire{}, 0, false
	}
	switch s.kind {
	case Cron:
		return s.cron.last(from, to)
	case Every:
		a, d := s.ticks(from)
		until := min(floorDiv(to.UnixMicro()-a, d), ((endSec+1)*1e6-1-a)/d)
		count = until - max(0, floorDiv(from.UnixMicro()-a, d))
		if count <= 0 {
			return Fire{}, 0, false
		}
		last, _ = s.micro(a + until*d)
		return last, count, true
	case At, List:
		later := func(t time.Time) int {
			return sort.Search(len(s.instants), func(i int) bool { return s.instants[i].After(t) })
		}
		i, j := later(from), later(to)
		if i < j {
			return Fire{At: s.instants[j-1]}, int64(j - i), true
		}
	}
	return Fire{}, 0, false
}

// within keeps a time inside the years 1 to 9999, which RFC 3339 can write and arithmetic in microseconds can hold.
func within(t time.Time) time.Time {
	switch {
	case t.Before(time.Time{}):
		return time.Time{}
	case t.Unix() > endSec:
		return time.Unix(endSec, 999999999)
	}
	return t
}

// ticks gives the anchor and the interval of @every in microseconds.
func (s *Schedule) ticks(from time.Time) (anchor, interval int64) {
	if s.anchor.IsZero() {
		return from.UnixMicro(), s.interval.Microseconds()
	}
	return s.anchor.UnixMicro(), s.interval.Microseconds()
}

func (s *Schedule) micro(at int64) (Fire, bool) {
	if at > endSec*1e6 {
		return Fire{}, false
	}
	return Fire{At: time.UnixMicro(at).In(s.zone.loc)}, true
}

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
	if len(s.Spec) > maxSpec {
		p.refuse("spec", "长度超过 %d 字节；请拆成几个任务", "is longer than %d bytes; split it into several tasks", maxSpec)
		return
	}
	spec, zoneName := p.takeZone(strings.TrimSpace(s.Spec), s.Zone)
	zone, ok := findZone(zoneName)
	if !ok {
		p.refuseZone(zoneName, s.Zone == "")
		zone, _ = findZone("")
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
