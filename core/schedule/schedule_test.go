package schedule_test

import (
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

// tester is what *testing.T, *testing.B and *rapid.T have in common here.
type tester interface {
	Helper()
	Fatal(args ...any)
}

func mustParse(t tester, s core.Schedule) *schedule.Schedule {
	t.Helper()
	parsed, err := schedule.Parse(s, "task", nil)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// instant reads RFC 3339.
func instant(t tester, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
