package schedule_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/schedule"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestWordsSayWhenItFires compares the words of every schedule in testdata/words.golden, which a person has read.
// A line is: dialect | zone | spec | zh | en.
func TestWordsSayWhenItFires(t *testing.T) {
	t.Parallel()
	const path = "testdata/words.golden"
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(golden)) {
		parts := strings.Split(strings.TrimSpace(line), " | ")
		if strings.HasPrefix(line, "#") {
			got.WriteString(line)
			continue
		}
		s, err := schedule.Parse(core.Schedule{Dialect: parts[0], Zone: strings.Trim(parts[1], "-"), Spec: parts[2]}, "golden", nil)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		w := s.Words()
		fmt.Fprintf(&got, "%s | %s | %s | %s | %s\n", parts[0], parts[1], parts[2], w.Zh, w.En)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(string(golden), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("words differ from %s; run with -update and read the diff:\n%s", path, diff)
	}
}

func TestWordsSayThePoliciesThatDifferFromTheDefault(t *testing.T) {
	t.Parallel()
	s := mustParse(t, core.Schedule{Spec: "30 2 * * *", Zone: "Europe/Berlin", OnGap: "skip", OnOverlap: "both"})
	want := core.Text{
		Zh: "每天 02:30；时钟跳过的时刻不补跑；重复的时刻两次都跑（Europe/Berlin）",
		En: "every day at 02:30; a time the clock leaves out is not made up for; both of a time that comes twice (Europe/Berlin)",
	}
	if got := s.Words(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
