package main

import (
	"encoding/csv"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What should happen in the factory is reckoned here a second time, out of the inventory of its jobs, the published holidays
// and the clock on the wall, by nothing of Gnomon's.

// nominal is an instant at which a job should run, or would but for a day off.
type nominal struct {
	at  time.Time
	off bool
}

// duty is a task with what the inventory says of it.
type duty struct {
	name     string
	rows     []int
	hour     int // -1: every hour
	minute   int
	monthly  bool
	never    bool // nobody's clock starts it: it is a step of a chain
	only     string
	not      string
	toNext   bool
	workflow bool
	catchAll int // how many missed fires are caught up at most; 0: the latest
}

var (
	hourly   = regexp.MustCompile("^hourly `:(\\d\\d)`$")
	daily    = regexp.MustCompile(`^(\d\d):(\d\d)`)
	monthly  = regexp.MustCompile(`^每月1号 (\d\d):(\d\d)$`)
	holidays = []string{"09-25", "09-26", "09-27", "10-01", "10-02", "10-03", "10-04", "10-05", "10-06", "10-07"}
	makeUp   = []string{"09-20", "10-10"}
)

// inventory gives the times of the 38 jobs, as they are written.
func inventory(t *testing.T) []string {
	t.Helper()
	file, err := os.Open("../../forecast/testdata/manufacturing-jobs.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines, err := csv.NewReader(file).ReadAll()
	if err != nil || len(lines) != 39 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	times := []string{""}
	for _, line := range lines[1:] {
		times = append(times, line[2])
	}
	return times
}

// duties gives what each task of the demo has to do, and fails if one of the 38 rows has no task.
func duties(t *testing.T, all []*defined) []duty {
	t.Helper()
	times, seen := inventory(t), map[int]bool{}
	var list []duty
	for _, one := range all {
		if one.list != "tasks" {
			continue
		}
		doc := one.doc
		plan := doc["schedule"].(map[string]any)
		d := duty{name: doc["name"].(string), never: plan["spec"] == "@manual", workflow: doc["type"] == "Common.Workflow", toNext: plan["on_day_off"] == "next", hour: -2}
		if only, ok := plan["only_on"].([]any); ok {
			d.only = only[0].(string)
		}
		if not, ok := plan["not_on"].([]any); ok {
			d.not = not[0].(string)
		}
		if policies, ok := doc["policies"].(map[string]any); ok && policies["catch_up"] == "all" {
			d.catchAll = int(policies["catch_up_limit"].(uint64))
		}
		for _, text := range strings.Split(doc["labels"].(map[string]any)["inventory"].(string), ", ") {
			row, err := strconv.Atoi(text)
			if err != nil || row < 1 || row > 38 {
				t.Fatalf("%s stands for row %q", d.name, text)
			}
			seen[row] = true
			d.rows = append(d.rows, row)
			d.read(times[row])
		}
		if !d.never && d.hour == -2 {
			t.Fatalf("%s: the inventory gives it no time", d.name)
		}
		list = append(list, d)
	}
	if len(seen) != 38 {
		t.Errorf("%d of the inventory's 38 rows have a task", len(seen))
	}
	return list
}

// read takes a time of the inventory, if it is the earliest of the duty's.
func (d *duty) read(text string) {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // two digits, by the expressions
	hour, minute := -2, 0
	if m := hourly.FindStringSubmatch(text); m != nil {
		hour, minute = -1, number(m[1])
	} else if m := monthly.FindStringSubmatch(text); m != nil {
		hour, minute, d.monthly = number(m[1]), number(m[2]), true
	} else if m := daily.FindStringSubmatch(text); m != nil {
		hour, minute = number(m[1]), number(m[2])
	}
	if hour == -2 || d.hour != -2 && d.hour*60+d.minute <= hour*60+minute {
		return
	}
	d.hour, d.minute = hour, minute
}

// instants gives the duty's instants in from <= t < to. moved says that at some time its hour and minute became others.
func (d *duty) instants(from, to time.Time, moved func(at time.Time) (hour, minute int)) []nominal {
	var list []nominal
	if d.never {
		return nil
	}
	for day := from.AddDate(0, -1, 0); day.Before(to); day = day.AddDate(0, 0, 1) {
		if d.monthly && day.Day() != 1 {
			continue
		}
		for hour := range 24 {
			wanted, minute := d.hour, d.minute
			if moved != nil {
				wanted, minute = moved(day.Add(time.Duration(hour) * time.Hour))
			}
			if wanted >= 0 && wanted != hour {
				continue
			}
			at := time.Date(day.Year(), day.Month(), day.Day(), hour, minute, 0, 0, shanghai)
			n := nominal{at: at, off: !d.allows(at)}
			for d.toNext && n.off {
				n.at = n.at.AddDate(0, 0, 1)
				n.off = !d.allows(n.at)
			}
			if !n.at.Before(from) && n.at.Before(to) {
				list = append(list, n)
			}
		}
	}
	return list
}

// allows says whether the duty is one of that day and time.
func (d *duty) allows(at time.Time) bool {
	day, weekday := at.Format("01-02"), at.Weekday()
	if d.not == "stocktaking" && day == "09-30" && at.Hour() >= 18 {
		return false
	}
	if d.only == "" {
		return true
	}
	if slices.Contains(holidays, day) {
		return false
	}
	return slices.Contains(makeUp, day) || weekday != time.Sunday && (d.only == "factory-days" || weekday != time.Saturday)
}
