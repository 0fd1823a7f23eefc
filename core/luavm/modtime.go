package luavm

import (
	"fmt"
	"strings"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// An instant in Lua is a number: milliseconds since 1970-01-01 UTC. A span is a number of milliseconds or a text such as
// "90s", "1h30m" or "2d".
const (
	maxSleep   = 10 * time.Minute
	maxInstant = 253402300799999 // the end of the year 9999
)

var timeFuncs = functions{
	"now": timeNow, "now_ms": timeNow, "format": timeFormat, "parse": timeParse, "add": timeAdd, "zone": timeZone,
	"sleep": timeSleep, "fire_at": timeFireAt, "ms": timeSpan,
}

func timeNow(L *lua.LState) int {
	L.Push(lua.LNumber(time.Now().UnixMilli()))
	return 1
}

// timeFireAt is the nominal instant of the fire this run belongs to; a run of a fire it makes up for has the old one.
func timeFireAt(L *lua.LState) int {
	L.Push(lua.LNumber(sessionOf(L).fireAt.UnixMilli()))
	return 1
}

// timeZone is the name of the schedule's zone.
func timeZone(L *lua.LState) int {
	L.Push(lua.LString(sessionOf(L).location.String()))
	return 1
}

func checkInstant(L *lua.LState, n int) time.Time {
	ms := float64(L.CheckNumber(n))
	if !(ms >= -maxInstant && ms <= maxInstant) {
		L.ArgError(n, "an instant in milliseconds, as time.now() gives it, is expected")
	}
	return time.UnixMilli(int64(ms))
}

func checkZone(L *lua.LState, n int) *time.Location {
	name := L.OptString(n, "")
	if name == "" {
		return sessionOf(L).location
	}
	if strings.EqualFold(name, "local") {
		L.ArgError(n, "\"Local\" depends on the machine; name a zone such as Asia/Shanghai")
	}
	zone, err := location(name)
	if err != nil {
		L.ArgError(n, fmt.Sprintf("%q is no time zone; write an IANA name such as Asia/Shanghai", name))
	}
	return zone
}

// zones keeps the zones in use: reading one from the database takes longer than a short run.
var zones sync.Map // name -> *time.Location

func location(name string) (*time.Location, error) {
	if zone, ok := zones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	zone, err := time.LoadLocation(name)
	if err == nil {
		zones.Store(name, zone)
	}
	return zone, err
}

// parseSpan understands Go's durations and d for 24 hours at the beginning: "2d", "1d12h".
func parseSpan(text string) (time.Duration, error) {
	days := time.Duration(0)
	rest := text
	if before, after, ok := strings.Cut(text, "d"); ok {
		var n int64
		if _, err := fmt.Sscanf(before+"|", "%d|", &n); err != nil || n > 36500 || n < -36500 {
			return 0, fmt.Errorf("%q is no span; write 500ms, 90s, 1h30m or 2d", text)
		}
		days, rest = time.Duration(n)*24*time.Hour, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, fmt.Errorf("%q is no span; write 500ms, 90s, 1h30m or 2d", text)
	}
	return days + d, nil
}

func checkSpan(L *lua.LState, n int) time.Duration {
	switch v := L.Get(n).(type) {
	case lua.LNumber:
		if !(float64(v) >= -maxInstant && float64(v) <= maxInstant) {
			L.ArgError(n, "the span is out of range")
		}
		return time.Duration(float64(v) * float64(time.Millisecond))
	case lua.LString:
		d, err := parseSpan(string(v))
		if err != nil {
			L.ArgError(n, err.Error())
		}
		return d
	}
	L.ArgError(n, "a span is expected: milliseconds, or a text such as \"90s\", \"1h30m\" or \"2d\"")
	return 0
}

// timeSpan is time.ms(span): the span in milliseconds.
func timeSpan(L *lua.LState) int {
	L.Push(lua.LNumber(checkSpan(L, 1).Milliseconds()))
	return 1
}

// timeAdd is time.add(instant, span) or time.add(instant, {days=, months=, years=, hours=, minutes=, seconds=} [, zone]).
// Days, months and years are calendar ones in the zone.
func timeAdd(L *lua.LState) int {
	at := checkInstant(L, 1)
	t, ok := L.Get(2).(*lua.LTable)
	if !ok {
		L.Push(lua.LNumber(at.Add(checkSpan(L, 2)).UnixMilli()))
		return 1
	}
	part := map[string]float64{}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		n, isNumber := v.(lua.LNumber)
		switch key := k.String(); key {
		case "years", "months", "days", "hours", "minutes", "seconds":
			if !isNumber || !(float64(n) > -1e9 && float64(n) < 1e9) {
				L.ArgError(2, key+" must be a number")
			}
			part[key] = float64(n)
		default:
			L.ArgError(2, fmt.Sprintf("%q is none of years, months, days, hours, minutes, seconds", key))
		}
	}
	local := at.In(checkZone(L, 3)).AddDate(int(part["years"]), int(part["months"]), int(part["days"]))
	local = local.Add(time.Duration((part["hours"]*3600 + part["minutes"]*60 + part["seconds"]) * float64(time.Second)))
	L.Push(lua.LNumber(local.UnixMilli()))
	return 1
}

// timeFormat is time.format(instant [, layout [, zone]]). Without a layout it gives RFC 3339; a layout is strftime's:
// %Y %m %d %H %M %S %L (milliseconds) %F (date) %T (time) %z %Z %a %A %b %B %y %j %%.
func timeFormat(L *lua.LState) int {
	at := checkInstant(L, 1).In(checkZone(L, 3))
	layout := L.OptString(2, "")
	if layout == "" {
		L.Push(lua.LString(at.Format("2006-01-02T15:04:05.999Z07:00")))
		return 1
	}
	if len(layout) > 200 {
		L.ArgError(2, "the layout is too long")
	}
	var out strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			out.WriteByte(layout[i])
			continue
		}
		i++
		part, ok := strftime[layout[i]]
		switch {
		case layout[i] == '%':
			out.WriteByte('%')
		case layout[i] == 'L':
			fmt.Fprintf(&out, "%03d", at.Nanosecond()/int(time.Millisecond))
		case ok:
			out.WriteString(at.Format(part))
		default:
			L.ArgError(2, fmt.Sprintf("%%%c is not known; known are %%Y %%m %%d %%H %%M %%S %%L %%F %%T %%z %%Z %%a %%A %%b %%B %%y %%j", layout[i]))
		}
	}
	L.Push(lua.LString(out.String()))
	return 1
}

var strftime = map[byte]string{
	'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'F': "2006-01-02", 'T': "15:04:05",
	'z': "-0700", 'Z': "MST", 'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'j': "002",
}

// timeParse is time.parse(text [, layout [, zone]]): the instant, or nil and why not. Without a layout it takes RFC 3339,
// "2006-01-02 15:04:05" and "2006-01-02", the last two in the zone.
func timeParse(L *lua.LState) int {
	text, layout := L.CheckString(1), L.OptString(2, "")
	zone := checkZone(L, 3)
	layouts := []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02"}
	if layout != "" {
		var g strings.Builder
		for i := 0; i < len(layout); i++ {
			if layout[i] != '%' || i+1 == len(layout) {
				g.WriteByte(layout[i])
				continue
			}
			i++
			part, ok := strftime[layout[i]]
			switch {
			case layout[i] == 'L':
				part = "000" // only after a dot or comma, as Go wants it
			case layout[i] == '%':
				part = "%"
			case !ok:
				L.ArgError(2, fmt.Sprintf("%%%c is not known in a layout", layout[i]))
			}
			g.WriteString(part)
		}
		layouts = []string{g.String()}
	}
	var err error
	for _, l := range layouts {
		var at time.Time
		if at, err = time.ParseInLocation(l, text, zone); err == nil {
			L.Push(lua.LNumber(at.UnixMilli()))
			return 1
		}
	}
	L.Push(lua.LNil)
	L.Push(lua.LString(fmt.Sprintf("%q is not a time of the form %s", text, strings.Join(layouts, ", "))))
	return 2
}

// timeSleep waits, at most 10 minutes, and ends at once when the run has to.
func timeSleep(L *lua.LState) int {
	d := checkSpan(L, 1)
	if d < 0 || d > maxSleep {
		L.ArgError(1, "a sleep is at most 10 minutes; for longer waits end the run and use the schedule")
	}
	if sessionOf(L).describing {
		L.RaiseError("time.sleep can be used inside run = function(ctx) … end only")
	}
	b := budgetOf(L)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.Context.Done():
		b.next = b.left
		b.charge(L, 1)
	}
	return 0
}
