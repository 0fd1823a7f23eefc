package schedule_test

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// The oracle of calendars applies their rule by its words to lists of instants, which it takes from schedules without
// calendars (next_test.go and oracle_test.go hold those): each instant that is refused goes to the same time of the next
// (or last) day on which that is allowed, one by one, looking at every day. It knows nothing of stretches.

// toggles are days made of instants at which the answer changes.
type toggles struct {
	first bool // the answer before the first of them
	at    []time.Time
	short time.Duration // no stretch is longer, as of calendars that stop at each midnight; 0: they are as long as can be
}

func (d toggles) holds(at time.Time) bool {
	n := sort.Search(len(d.at), func(i int) bool { return d.at[i].After(at) })
	return d.first != (n%2 == 1)
}

func (d toggles) Stretch(at time.Time) (in bool, from, to time.Time) {
	n := sort.Search(len(d.at), func(i int) bool { return d.at[i].After(at) })
	from, to = time.Time{}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	if n > 0 {
		from = d.at[n-1]
	}
	if n < len(d.at) {
		to = d.at[n]
	}
	if d.short > 0 {
		if cut := at.Truncate(d.short); cut.After(from) {
			from = cut
		}
		if cut := at.Truncate(d.short).Add(d.short); cut.Before(to) {
			to = cut
		}
	}
	return d.holds(at), from, to
}

type named map[string]toggles

func (n named) Days(name string, _ *time.Location) (schedule.Days, bool) {
	d, ok := n[name]
	return d, ok
}

func (n named) Names() []string {
	var names []string
	for name := range n {
		names = append(names, name)
	}
	return names
}

// drawToggles makes days around a range: whole local days, times of day, or any instants.
func drawToggles(t *rapid.T, label string, loc *time.Location, from, to time.Time) toggles {
	d := toggles{first: rapid.Bool().Draw(t, label+" first")}
	if rapid.Bool().Draw(t, label+" short") {
		d.short = rapid.SampledFrom([]time.Duration{24 * time.Hour, time.Hour}).Draw(t, label+" at most")
	}
	form := rapid.SampledFrom([]string{"days", "days", "times", "spans", "never"}).Draw(t, label+" form")
	if form == "never" && rapid.IntRange(0, 3).Draw(t, label+" really") > 0 {
		form = "days"
	}
	const day = 24 * time.Hour
	add := func(near time.Time, hour int) {
		near = near.In(loc)
		cut := time.Date(near.Year(), near.Month(), near.Day(), hour, 0, 0, 0, loc)
		if n := len(d.at); n == 0 || cut.After(d.at[n-1]) {
			d.at = append(d.at, cut)
		}
	}
	switch at := from.Add(-1200 * day); form {
	case "days":
		// A few lengths over and over: to draw each would take rapid longer than the test.
		runs := rapid.SliceOfN(rapid.IntRange(1, rapid.SampledFrom([]int{3, 10, 500}).Draw(t, label+" most")), 1, 9).Draw(t, label+" runs")
		for i := 0; at.Before(to.Add(1200 * day)); i++ {
			at = at.Add(time.Duration(runs[i%len(runs)]) * day)
			add(at, 0)
		}
	case "times":
		a, b := rapid.IntRange(0, 12).Draw(t, label+" a"), rapid.IntRange(13, 23).Draw(t, label+" b")
		for ; at.Before(to.Add(1200 * day)); at = at.Add(day) {
			add(at, a)
			add(at, b)
		}
	case "spans":
		runs := rapid.SliceOfN(rapid.Int64Range(7001, 40*24*3600), 1, 9).Draw(t, label+" runs")
		for i := 0; at.Before(to.Add(1200 * day)); i++ {
			at = at.Add(time.Duration(runs[i%len(runs)]) * time.Second)
			d.at = append(d.at, at)
		}
	}
	return d
}

// dailyFires gives the instants at which a schedule without calendars fires in (from, to], skipped ones apart.
func dailyFires(t tester, s core.Schedule, from, to time.Time) (starts, skips []time.Time) {
	t.Helper()
	parsed := mustParse(t, s)
	for at := from; ; {
		fire, ok := parsed.Next(at)
		if !ok || fire.At.After(to) {
			return starts, skips
		}
		if at = fire.At; fire.Skip == "" {
			starts = append(starts, at)
		} else {
			skips = append(skips, at)
		}
	}
}

// ruled is a schedule with calendars as the oracle sees it.
type ruled struct {
	schedule  core.Schedule
	calendars named
	// lines are the rows of instants that are moved each by itself: nominal ones, and the same time of every day.
	lines []struct{ nominal, daily []time.Time }
	skips []time.Time // local times that do not exist
}

// refusedBy gives the first calendar that refuses an instant.
func (r ruled) refusedBy(at time.Time) (name, rule string) {
	for _, name := range r.schedule.OnlyOn {
		if !r.calendars[name].holds(at) {
			return name, "only_on"
		}
	}
	for _, name := range r.schedule.NotOn {
		if r.calendars[name].holds(at) {
			return name, "not_on"
		}
	}
	return "", ""
}

func (r ruled) inWindow(at time.Time) bool {
	return (r.schedule.From.IsZero() || !at.Before(r.schedule.From)) && (r.schedule.Until.IsZero() || at.Before(r.schedule.Until))
}

// goesTo gives where a refused instant goes; it stays where it is if there is no such day.
func (r ruled) goesTo(at time.Time, daily []time.Time) time.Time {
	good := func(day time.Time) bool {
		name, _ := r.refusedBy(day)
		return name == "" && r.inWindow(day)
	}
	if r.schedule.OnDayOff == "next" {
		for _, day := range daily {
			if day.After(at) && day.Sub(at) <= 366*24*time.Hour && good(day) {
				return day
			}
		}
		return at
	}
	for _, day := range slices.Backward(daily) {
		if day.Before(at) && at.Sub(day) <= 366*24*time.Hour && good(day) {
			return day
		}
	}
	return at
}

// expect gives every fire in (from, to], and where instants were moved.
func (r ruled) expect(from, to time.Time) (fires []schedule.Fire, moved map[int64]time.Time) {
	all := make(map[int64]*schedule.Fire)
	moved = make(map[int64]time.Time)
	own := make(map[int64]bool)
	for _, at := range r.skips {
		if r.inWindow(at) {
			all[at.UnixMicro()] = &schedule.Fire{At: at, Skip: core.ReasonNonexistent}
		}
	}
	for _, line := range r.lines {
		for _, at := range line.nominal {
			if !r.inWindow(at) {
				continue
			}
			fire := schedule.Fire{At: at}
			if fire.Calendar, fire.Rule = r.refusedBy(at); fire.Calendar != "" {
				fire.Skip = core.ReasonCalendar
				if r.schedule.OnDayOff == "next" || r.schedule.OnDayOff == "previous" {
					if day := r.goesTo(at, line.daily); !day.Equal(at) {
						fire.At, fire.MovedFrom, fire.Skip = day, at, ""
						if first, ok := moved[at.UnixMicro()]; !ok || day.Before(first) {
							moved[at.UnixMicro()] = day
						}
					}
				}
			}
			key := fire.At.UnixMicro()
			before := all[key]
			switch {
			case before == nil:
				all[key] = &fire
				own[key] = fire.MovedFrom.IsZero()
			case fire.MovedFrom.IsZero():
				if !own[key] {
					before.Merged++
				}
				own[key] = true
			default:
				before.Merged++
				if before.MovedFrom.IsZero() || fire.MovedFrom.Before(before.MovedFrom) {
					before.MovedFrom, before.Calendar, before.Rule = fire.MovedFrom, fire.Calendar, fire.Rule
				}
			}
		}
	}
	for _, fire := range all {
		if fire.At.After(from) && !fire.At.After(to) {
			fires = append(fires, *fire)
		}
	}
	slices.SortFunc(fires, func(a, b schedule.Fire) int { return a.At.Compare(b.At) })
	return fires, moved
}

// drawRuled makes a schedule with calendars, of a kind whose fires can be listed.
func drawRuled(t *rapid.T, zone string, loc *time.Location, from, to time.Time) ruled {
	r := ruled{calendars: named{}}
	for i := range rapid.IntRange(1, 3).Draw(t, "calendars") {
		name := fmt.Sprintf("c%d", i)
		r.calendars[name] = drawToggles(t, name, loc, from, to)
		if rapid.Bool().Draw(t, name+" only") {
			r.schedule.OnlyOn = append(r.schedule.OnlyOn, name)
		} else {
			r.schedule.NotOn = append(r.schedule.NotOn, name)
		}
	}
	r.schedule.Zone = zone
	r.schedule.OnDayOff = rapid.SampledFrom([]string{"", "skip", "next", "previous", "next", "previous"}).Draw(t, "on_day_off")
	if rapid.IntRange(0, 2).Draw(t, "from?") == 0 {
		r.schedule.From = from.Add(time.Duration(rapid.Int64Range(-int64(50*24*time.Hour), int64(30*24*time.Hour)).Draw(t, "from by")))
	}
	if rapid.IntRange(0, 2).Draw(t, "until?") == 0 {
		r.schedule.Until = to.Add(time.Duration(rapid.Int64Range(-int64(30*24*time.Hour), int64(50*24*time.Hour)).Draw(t, "until by")))
	}
	r.schedule.OnGap = rapid.SampledFrom([]string{"", "skip"}).Draw(t, "on_gap")
	r.schedule.OnOverlap = rapid.SampledFrom([]string{"", "second", "both"}).Draw(t, "on_overlap")

	moves := r.schedule.OnDayOff == "next" || r.schedule.OnDayOff == "previous"
	near, far := 370*24*time.Hour, 800*24*time.Hour // nominal instants, and days they may go to
	if !moves {
		near, far = time.Hour, time.Hour
	}
	line := func(nominal, daily core.Schedule) {
		r.lines = append(r.lines, struct{ nominal, daily []time.Time }{})
		last := &r.lines[len(r.lines)-1]
		last.nominal, _ = dailyFires(t, nominal, from.Add(-near), to.Add(near))
		last.daily, _ = dailyFires(t, daily, from.Add(-far), to.Add(far))
	}
	plain := core.Schedule{Zone: zone, OnGap: r.schedule.OnGap, OnOverlap: r.schedule.OnOverlap}
	with := func(spec string) core.Schedule {
		s := plain
		s.Spec = spec
		return s
	}
	dow := rapid.SampledFrom([]string{"*", "*", "1-5", "6", "0,3", "0-6"}).Draw(t, "weekday")
	dom := "*"
	if dow == "*" {
		dom = rapid.SampledFrom([]string{"*", "*", "1", "15,16", "*/9"}).Draw(t, "day")
	}
	kind := rapid.SampledFrom([]string{"cron", "cron", "cron", "real time", "every", "list", "often"}).Draw(t, "kind")
	if moves && kind == "often" {
		kind = "cron"
	}
	switch kind {
	case "cron":
		minutes := rapid.SampledFrom([][]int{{0}, {30}, {0, 30}, {15, 45}}).Draw(t, "minutes")
		hours := rapid.SliceOfNDistinct(rapid.SampledFrom([]int{0, 1, 2, 3, 9, 12, 22, 23}), 1, 3, rapid.ID[int]).Draw(t, "hours")
		for _, h := range hours {
			for _, m := range minutes {
				line(with(fmt.Sprintf("%d %d %s * %s", m, h, dom, dow)), with(fmt.Sprintf("%d %d * * *", m, h)))
			}
		}
		list := func(n []int) string { return strings.Trim(strings.ReplaceAll(fmt.Sprint(n), " ", ","), "[]") }
		r.schedule.Spec = fmt.Sprintf("%s %s %s * %s", list(minutes), list(hours), dom, dow)
		_, r.skips = dailyFires(t, with(r.schedule.Spec), from.Add(-near), to.Add(near))
	case "real time":
		r.schedule.Spec = fmt.Sprintf("30 */%d %s * %s", rapid.SampledFrom([]int{1, 6, 11}).Draw(t, "hours"), dom, dow)
		nominal, _ := dailyFires(t, with(r.schedule.Spec), from.Add(-near), to.Add(near))
		daily, _ := dailyFires(t, with("30 * * * *"), from.Add(-far), to.Add(far))
		r.lines = make([]struct{ nominal, daily []time.Time }, 24)
		for _, at := range nominal {
			h := at.In(loc).Hour()
			r.lines[h].nominal = append(r.lines[h].nominal, at)
		}
		for _, at := range daily {
			h := at.In(loc).Hour()
			r.lines[h].daily = append(r.lines[h].daily, at)
		}
	case "every":
		days := rapid.SampledFrom([]int{1, 2, 7, 30}).Draw(t, "days")
		r.schedule.Anchor = from.Add(-time.Duration(rapid.Int64Range(-5e15, 60e15).Draw(t, "anchor"))).Truncate(time.Microsecond)
		nominal, daily := plain, plain
		nominal.Spec, nominal.Anchor = fmt.Sprintf("@every %dh", 24*days), r.schedule.Anchor
		daily.Spec, daily.Anchor = "@every 24h", r.schedule.Anchor.AddDate(-8, 0, 0).In(time.UTC)
		daily.Anchor = r.schedule.Anchor.Add(-3000 * 24 * time.Hour)
		r.schedule.Spec = nominal.Spec
		line(nominal, daily)
	case "list":
		r.schedule.Spec = "@list"
		var seen []time.Time
		for range rapid.IntRange(1, 12).Draw(t, "instants") {
			at := from.Add(time.Duration(rapid.Int64Range(0, int64(to.Sub(from))).Draw(t, "instant"))).In(loc)
			at = time.Date(at.Year(), at.Month(), at.Day(), rapid.SampledFrom([]int{9, 2, 1}).Draw(t, "hour"), 30, 0, 5000, loc)
			if slices.ContainsFunc(seen, at.Equal) {
				continue
			}
			seen = append(seen, at)
			r.schedule.Spec += " " + at.UTC().Format(time.RFC3339Nano)
			r.lines = append(r.lines, struct{ nominal, daily []time.Time }{nominal: []time.Time{at}})
			last := &r.lines[len(r.lines)-1]
			daily := core.Schedule{Zone: zone, OnOverlap: "both", Spec: fmt.Sprintf("%d %d * * *", at.Minute(), at.Hour())}
			last.daily, _ = dailyFires(t, daily, from.Add(-far), to.Add(far))
			for i := range last.daily {
				last.daily[i] = last.daily[i].Add(5000)
			}
		}
		// Instants are asked in their order, because the first that is moved gives the fire its reason.
		slices.SortFunc(r.lines, func(a, b struct{ nominal, daily []time.Time }) int { return a.nominal[0].Compare(b.nominal[0]) })
	case "often":
		r.schedule.Spec = rapid.SampledFrom([]string{"*/7 9-11 * * *", "13 0-9/2 * * *", "@every 97m"}).Draw(t, "spec")
		s := with(r.schedule.Spec)
		s.Anchor, r.schedule.Anchor = from, from
		var nominal []time.Time
		nominal, r.skips = dailyFires(t, s, from.Add(-near), to.Add(near))
		r.lines = append(r.lines, struct{ nominal, daily []time.Time }{nominal: nominal})
	}
	return r
}

func sameFire(x, y schedule.Fire) bool {
	x.At, y.At, x.MovedFrom, y.MovedFrom = x.At.UTC(), y.At.UTC(), x.MovedFrom.UTC(), y.MovedFrom.UTC()
	return x == y
}

func checkCalendars(t *rapid.T) {
	place := rapid.SampledFrom(oddZones).Draw(t, "place")
	near := instant(t, place.near)
	loc := mustParse(t, core.Schedule{Spec: "@manual", Zone: place.zone}).Location()
	from := near.Add(-time.Duration(rapid.IntRange(1, 30).Draw(t, "before")) * 24 * time.Hour)
	to := near.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "after")) * 24 * time.Hour)
	r := drawRuled(t, place.zone, loc, from, to)
	s, err := schedule.Parse(r.schedule, "task", r.calendars)
	if err != nil {
		if strings.Contains(err.Error(), "leave no day") || strings.Contains(err.Error(), "leaves no instant") ||
			strings.Contains(err.Error(), "not after from") {
			t.Skip("nothing is left")
		}
		t.Fatalf("%+v: %v", r.schedule, err)
	}
	want, moved := r.expect(from, to)
	var got []schedule.Fire
	for at := from; ; {
		fire, ok := s.Next(at)
		if !ok || fire.At.After(to) {
			break
		}
		if !fire.At.After(at) {
			t.Fatalf("%+v: Next(%s) = %s", r.schedule, at, fire.At)
		}
		got, at = append(got, fire), fire.At
		if again, ok := s.FireOf(fire.At); !ok || !sameFire(again, fire) {
			t.Fatalf("%+v: FireOf(%s) = %v, %v; Next gave %v", r.schedule, fire.At, again, ok, fire)
		}
		if words := s.Explain(fire); (words.En == "" || words.Zh == "") != (fire.Skip == "" && fire.MovedFrom.IsZero()) {
			t.Fatalf("%+v: Explain(%v) = %v", r.schedule, fire, words)
		}
	}
	for i := range max(len(want), len(got)) {
		if i >= len(got) || i >= len(want) || !sameFire(got[i], want[i]) {
			t.Fatalf("%+v:\nfire %d of\n got %v\nwant %v", r.schedule, i, got, want)
		}
	}
	for _, fire := range want {
		delete(moved, fire.At.UnixMicro()) // it has a fire of its own
	}
	for at, day := range moved {
		instant := time.UnixMicro(at)
		if got, ok := s.Nominal(instant); !ok || !got.Equal(day) {
			t.Fatalf("%+v: Nominal(%s) = %s, %v; want %s", r.schedule, instant, got, ok, day)
		}
	}
	for _, fire := range want {
		if to, ok := s.Nominal(fire.At); ok && fire.Skip == core.ReasonCalendar {
			t.Fatalf("%+v: Nominal(%s) = %s, but it is skipped", r.schedule, fire.At, to)
		}
	}
	pick := func(label string) time.Time {
		if len(want) > 0 && rapid.Bool().Draw(t, label+" at a fire") {
			return rapid.SampledFrom(want).Draw(t, label).At.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, label+" off")) * time.Microsecond)
		}
		return from.Add(time.Duration(rapid.Int64Range(0, int64(to.Sub(from))).Draw(t, label)))
	}
	checkRange(t, s, want, from, to, from, to)
	for range 4 {
		a := pick("a")
		checkRange(t, s, want, from, to, a, pick("b"))
		i := slices.IndexFunc(want, func(f schedule.Fire) bool { return f.At.After(a) && f.Skip == "" })
		fire, ok := s.NextStart(a)
		if i >= 0 && (!ok || !sameFire(fire, want[i])) || i < 0 && ok && !fire.At.After(to) {
			t.Fatalf("%+v: NextStart(%s) = %v, %v; fires %v", r.schedule, a, fire, ok, want)
		}
	}
}

func TestCalendarsAgreeWithTheOracle(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"A", "B"} { // 100 schedules each, and more with -rapid.checks
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, checkCalendars)
		})
	}
}

func FuzzCalendars(f *testing.F) { f.Fuzz(rapid.MakeFuzz(checkCalendars)) }

// TestAnInstantThatIsSkippedIsMovedNowhere: half an hour is left out in Lord Howe, which puts two times of a day on one instant. One
// of them finds a day to move to and the other none.
func TestAnInstantThatIsSkippedIsMovedNowhere(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 10, 3, 15, 30, 0, 0, time.UTC)
	tomorrow := time.Date(2026, 10, 4, 15, 0, 0, 0, time.UTC) // 02:00
	for spec, want := range map[string]time.Time{"0 2 * * *": tomorrow, "15 2 * * *": {}, "0,15 2 * * *": {}} {
		s, err := schedule.Parse(core.Schedule{Spec: spec, Zone: "Australia/Lord_Howe", OnlyOn: []string{"open"}, OnDayOff: "next"}, "t",
			named{"open": toggles{at: []time.Time{tomorrow, tomorrow.Add(10 * time.Minute), tomorrow.AddDate(5, 0, 0), tomorrow.AddDate(5, 0, 1)}}}) // too far away
		if err != nil {
			t.Fatal(err)
		}
		to, moved := s.Nominal(at)
		if moved != !want.IsZero() || moved && !to.Equal(want) {
			t.Errorf("%s is moved: %v, to %s", spec, moved, to)
		}
		if fire, own := s.FireOf(at); own == moved || own && fire.Skip != core.ReasonCalendar {
			t.Errorf("%s has the fire %+v: %v, and is moved: %v", spec, fire, own, moved)
		}
	}
}
