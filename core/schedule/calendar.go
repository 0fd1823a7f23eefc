package schedule

import "math/bits"

const (
	daySeconds = 24 * 60 * 60
	firstYear  = 1970 // of a year field
	lastYear   = 2199
)

// span is a stretch [from, to) of local time, in civil seconds: the local date and time read as if it were UTC, counted
// from 1970. In civil seconds every day has 86,400 of them; what a zone does to them is for next.go.
type span struct{ from, to int64 }

// fields is a cron expression after parsing: which local dates and times of day match.
type fields struct {
	sec, min, hour uint64 // bit n: the value n matches
	month          uint16 // bits 1 to 12
	dom            uint32 // bits 1 to 31: days of the month
	domLast        uint32 // bit n: the n-th day before the last of the month (quartz L, L-3)
	domNear        uint32 // bits 1 to 31: the weekday nearest to that day (quartz 15W)
	domLastNear    uint32 // bit n: the weekday nearest to the n-th day before the last (quartz LW, L-3W)
	dow            uint8  // bit 0 is Sunday
	dowLast        uint8  // the last such day of the month (quartz 6L)
	dowNth         [6]uint8
	years          [4]uint64 // bit n: firstYear+n
	anyYear        bool
	anyDom, anyDow bool // the field begins with * (or is ?): it does not restrict on its own, and the two are ANDed
	realTime       bool // minute or hour begins with *: the spec follows real time
}

func (f *fields) perDay() int64 {
	return int64(bits.OnesCount64(f.sec) * bits.OnesCount64(f.min) * bits.OnesCount64(f.hour))
}

func (f *fields) yearMatches(year int64) bool {
	if f.anyYear {
		return true
	}
	if year < firstYear || year > lastYear {
		return false
	}
	n := year - firstYear
	return f.years[n/64]>>(n%64)&1 == 1
}

// days gives the matching days of a month as bits 1 to 31.
func (f *fields) days(year int64, month int) uint32 {
	if f.month>>month&1 == 0 || !f.yearMatches(year) {
		return 0
	}
	last := daysIn(year, month)
	first := weekday(dayNumber(year, month, 1))
	all := uint32(1)<<(last+1) - 2

	dom := f.dom
	for m := f.domLast; m != 0; m &= m - 1 {
		if d := last - bits.TrailingZeros32(m); d >= 1 {
			dom |= 1 << d
		}
	}
	for m := f.domLastNear; m != 0; m &= m - 1 {
		if d := last - bits.TrailingZeros32(m); d >= 1 {
			dom |= 1 << nearestWeekday(d, first, last)
		}
	}
	for m := f.domNear; m != 0; m &= m - 1 {
		if d := bits.TrailingZeros32(m); d <= last {
			dom |= 1 << nearestWeekday(d, first, last)
		}
	}

	dow := spread(f.dow, first)
	if f.dowLast != 0 {
		dow |= spread(f.dowLast, first) & (all &^ (1<<(last-6) - 1))
	}
	for n := 1; n <= 5; n++ {
		if f.dowNth[n] != 0 {
			dow |= spread(f.dowNth[n], first) & (0x7f << (7*n - 6))
		}
	}

	if f.anyDom || f.anyDow {
		return dom & dow & all
	}
	return (dom | dow) & all
}

// spread turns days of the week into days (bits 1 to 31) of a month whose first day is the weekday first.
func spread(dow uint8, first int) uint32 {
	week := uint64(dow)>>first | uint64(dow)<<(7-first)
	week &= 0x7f
	return uint32(week * (1<<1 | 1<<8 | 1<<15 | 1<<22 | 1<<29))
}

// nearestWeekday gives the day from Monday to Friday that is nearest to day without leaving the month.
func nearestWeekday(day, first, last int) int {
	switch w := (first + day - 1) % 7; {
	case w == 6 && day == 1:
		return 3
	case w == 6:
		return day - 1
	case w == 0 && day == last:
		return day - 2
	case w == 0:
		return day + 1
	}
	return day
}

// search gives matching civil seconds in rising order and remembers how far it has looked, so that asking again from a
// little further on costs nothing.
type search struct {
	f        *fields
	from, at int64 // no match in [from, at); at matches, or is never
	limit    int64 // do not look beyond this civil second
}

// next gives the first match at or after ls, or never.
func (s *search) next(ls int64) int64 {
	if s.at != 0 && s.from <= ls && ls <= s.at {
		return s.at
	}
	s.from, s.at = ls, s.f.nextMatch(ls, s.limit)
	return s.at
}

// nextMatch gives the first matching civil second at or after ls and not after limit, or never.
func (f *fields) nextMatch(ls, limit int64) int64 {
	day := floorDiv(ls, daySeconds)
	year, month, dom := civil(day)
	mask := f.days(year, month)
	if mask>>dom&1 == 1 {
		if tod, ok := f.timeFrom(int(ls - day*daySeconds)); ok {
			return day*daySeconds + int64(tod)
		}
	}
	mask &^= 1<<(dom+1) - 1
	for mask == 0 {
		if month++; month > 12 {
			month = 1
			year++
			if !f.anyYear && year > lastYear || dayNumber(year, 1, 1) > limit/daySeconds {
				return never
			}
		}
		mask = f.days(year, month)
	}
	day = dayNumber(year, month, bits.TrailingZeros32(mask))
	tod, _ := f.timeFrom(0)
	if at := day*daySeconds + int64(tod); at <= limit {
		return at
	}
	return never
}

// lastMatch gives the last matching civil second in s; ok is false if there is none.
func (f *fields) lastMatch(s span) (int64, bool) {
	day := floorDiv(s.to-1, daySeconds)
	year, month, dom := civil(day)
	mask := f.days(year, month)
	if mask>>dom&1 == 1 {
		if tod, ok := f.timeUpTo(int(s.to - 1 - day*daySeconds)); ok {
			at := day*daySeconds + int64(tod)
			return at, at >= s.from
		}
	}
	mask &= 1<<dom - 1
	for mask == 0 {
		if dayNumber(year, month, 1)*daySeconds <= s.from {
			return 0, false
		}
		if month--; month < 1 {
			month = 12
			year--
		}
		mask = f.days(year, month)
	}
	day = dayNumber(year, month, bits.Len32(mask)-1)
	tod, _ := f.timeUpTo(daySeconds - 1)
	at := day*daySeconds + int64(tod)
	return at, at >= s.from
}

// count gives the number of matching civil seconds in s. It costs one step for each month, however often f matches.
func (f *fields) count(s span) int64 {
	if s.from >= s.to {
		return 0
	}
	fromDay, toDay := floorDiv(s.from, daySeconds), floorDiv(s.to, daySeconds)
	// All of the days from fromDay up to, not including, toDay, plus the piece of toDay, less the piece of fromDay.
	n := int64(0)
	year, month, dom := civil(fromDay)
	for day := fromDay; day < toDay; {
		left := int64(daysIn(year, month) - dom + 1)
		mask := f.days(year, month) &^ (1<<dom - 1)
		if day+left > toDay {
			mask &= 1<<(dom+int(toDay-day)) - 1
		}
		n += int64(bits.OnesCount32(mask)) * f.perDay()
		day += left
		dom = 1
		if month++; month > 12 {
			month, year = 1, year+1
		}
	}
	return n + f.countInDay(toDay, s.to) - f.countInDay(fromDay, s.from)
}

// countInDay counts the matches from the beginning of a day up to, not including, civil second ls of it.
func (f *fields) countInDay(day, ls int64) int64 {
	year, month, dom := civil(day)
	if f.days(year, month)>>dom&1 == 0 {
		return 0
	}
	tod := int(ls - day*daySeconds)
	h, m, s := tod/3600, tod/60%60, tod%60
	secs, mins := bits.OnesCount64(f.sec), bits.OnesCount64(f.min)
	n := below(f.hour, h) * mins * secs
	if f.hour>>h&1 == 1 {
		n += below(f.min, m) * secs
		if f.min>>m&1 == 1 {
			n += below(f.sec, s)
		}
	}
	return int64(n)
}

func below(mask uint64, n int) int { return bits.OnesCount64(mask & (1<<n - 1)) }

// timeFrom gives the first matching second of a day at or after tod.
func (f *fields) timeFrom(tod int) (int, bool) {
	h, m, s := tod/3600, tod/60%60, tod%60
	if f.hour>>h&1 == 1 {
		if f.min>>m&1 == 1 {
			if r := f.sec >> s; r != 0 {
				return tod + bits.TrailingZeros64(r), true
			}
		}
		if r := f.min >> (m + 1); r != 0 {
			return h*3600 + (m+1+bits.TrailingZeros64(r))*60 + bits.TrailingZeros64(f.sec), true
		}
	}
	if r := f.hour >> (h + 1); r != 0 {
		return (h+1+bits.TrailingZeros64(r))*3600 + bits.TrailingZeros64(f.min)*60 + bits.TrailingZeros64(f.sec), true
	}
	return 0, false
}

// timeUpTo gives the last matching second of a day at or before tod.
func (f *fields) timeUpTo(tod int) (int, bool) {
	h, m, s := tod/3600, tod/60%60, tod%60
	top := func(mask uint64) int { return bits.Len64(mask) - 1 }
	if f.hour>>h&1 == 1 {
		if f.min>>m&1 == 1 {
			if r := f.sec & (1<<(s+1) - 1); r != 0 {
				return h*3600 + m*60 + top(r), true
			}
		}
		if r := f.min & (1<<m - 1); r != 0 {
			return h*3600 + top(r)*60 + top(f.sec), true
		}
	}
	if r := f.hour & (1<<h - 1); r != 0 {
		return top(r)*3600 + top(f.min)*60 + top(f.sec), true
	}
	return 0, false
}

// The proleptic Gregorian calendar by arithmetic. Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".

// dayNumber gives the days from 1970-01-01 to a date.
func dayNumber(year int64, month, day int) int64 {
	m := int64(month)
	if m <= 2 {
		year--
		m += 12
	}
	era := floorDiv(year, 400)
	yoe := year - era*400
	doy := (153*(m-3)+2)/5 + int64(day) - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// civil gives the date that lies days after 1970-01-01.
func civil(days int64) (year int64, month, day int) {
	days += 719468
	era := floorDiv(days, 146097)
	doe := days - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	year, month = yoe+era*400, int(mp)+3
	if month > 12 {
		month -= 12
		year++
	}
	return year, month, int(doy-(153*mp+2)/5) + 1
}

// weekday gives the day of the week of a day number, Sunday being 0. 1970-01-01 was a Thursday.
func weekday(days int64) int { return int(((days+4)%7 + 7) % 7) }

func daysIn(year int64, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}
