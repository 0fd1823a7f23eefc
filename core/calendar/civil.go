package calendar

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
	return int(dayNumber(year+int64(month)/12, month%12+1, 1) - dayNumber(year, month, 1))
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}
