//go:build linux

package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core/api"
)

// measures: the metrics are for those with a token.
func measures(t *testing.T, w *world) {
	for token, want := range map[string]int{"": 401, "gnomon_nobody": 401, w.token: 200} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != want {
			t.Errorf("answered %d instead of %d: %v %.200s", answer.StatusCode, want, err, text)
		}
		if want == 200 != strings.Contains(string(text), "\ngnomon_") {
			t.Errorf("answered %d: %.300s", want, text)
		}
	}
	w.now(w.task("Bench", "measured", api.TaskInput{Type: "Bench.Vanishing", Schedule: api.Schedule{Spec: "@manual"}}), nil)
	var shown map[string]metric
	// Between two passes they rest for a minute where a pass is slow: at the end of it they are a little further behind.
	w.until(3*time.Minute, "the roll-ups are known to be less than a minute behind", func() bool {
		shown = w.metrics()
		behind, known := shown["gnomon_rollups_behind_seconds"].values[""]
		if behind < 0 {
			t.Errorf("the roll-ups are %v s behind", behind)
		}
		return known && behind <= 60 && shown["gnomon_rollups_complete"].values[""] == 1
	})
	if free, total := shown["gnomon_data_disk_free_bytes"].values[""], shown["gnomon_data_disk_total_bytes"].values[""]; free <= 0 || free > total {
		t.Errorf("%v of %v bytes of the disk are free", free, total)
	}
	if used, limit := shown["gnomon_spool_bytes"].values[""], shown["gnomon_spool_limit_bytes"].values[""]; used <= 0 || used > limit {
		t.Errorf("the spool has %v of %v bytes", used, limit)
	}
	panelsAreFilled(t, shown)
}

// metric is one of /metrics.
type metric struct {
	counter bool
	values  map[string]float64 // by labels, as they are written
}

// metrics scrapes the server; histograms are left out.
func (w *world) metrics() map[string]metric {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/metrics", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+w.token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		w.t.Fatalf("answered %d: %v %.200s", answer.StatusCode, err, text)
	}
	all := make(map[string]metric)
	for _, kind := range regexp.MustCompile(`(?m)^# TYPE (gnomon_\w+) (gauge|counter)$`).FindAllStringSubmatch(string(text), -1) {
		all[kind[1]] = metric{kind[2] == "counter", make(map[string]float64)}
	}
	for _, line := range regexp.MustCompile(`(?m)^(gnomon_\w+)(?:\{(.*)\})? (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		value, err := strconv.ParseFloat(line[3], 64)
		if err != nil {
			w.t.Errorf("%s: %v", line[0], err)
		}
		if m, ok := all[line[1]]; ok {
			m.values[line[2]] = value
		}
	}
	return all
}

// panelsAreFilled: each query of deploy/grafana's dashboard of the server is one of a few simple forms of PromQL, over metrics
// that the server shows, with labels that they have. Only what tells that something waits may be absent.
func panelsAreFilled(t *testing.T, shown map[string]metric) {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/grafana/dashboards/server.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID    string `json:"uid"`
		Panels []struct {
			ID         int    `json:"id"`
			Title      string `json:"title"`
			Datasource struct {
				Type, UID string
			} `json:"datasource"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(text, &d); err != nil || d.UID != "gnomon-server" || len(d.Panels) == 0 {
		t.Fatalf("%v %+v", err, d)
	}
	form := regexp.MustCompile(`^(?:rate\((gnomon_\w+)\[\$__rate_interval\]\)|max by \((\w+)\) \((gnomon_\w+)\)|(gnomon_\w+)(?: / (gnomon_\w+)| \* 1000)?)$`)
	seen := make(map[int]bool)
	for _, p := range d.Panels {
		if seen[p.ID] || p.Datasource.Type != "prometheus" || p.Datasource.UID != "gnomon-metrics" || len(p.Targets) == 0 {
			t.Errorf("panel %d: %+v", p.ID, p)
		}
		seen[p.ID] = true
		for _, target := range p.Targets {
			parts := form.FindStringSubmatch(target.Expr)
			if parts == nil {
				t.Errorf("panel %q: %s is of no form that is known here", p.Title, target.Expr)
				continue
			}
			rated, label, grouped := parts[1], parts[2], parts[3]
			for _, name := range []string{rated, grouped, parts[4], parts[5]} {
				if name != "" && len(shown[name].values) == 0 && name != "gnomon_spool_oldest_unshipped_timestamp_seconds" {
					t.Errorf("panel %q: the server does not show %s", p.Title, name)
				}
			}
			if rated != "" && !shown[rated].counter {
				t.Errorf("panel %q: %s is no counter", p.Title, rated)
			}
			for labels := range shown[grouped].values {
				if !strings.Contains(","+labels, ","+label+"=") {
					t.Errorf("panel %q: %s{%s} has no label %s", p.Title, grouped, labels, label)
				}
			}
		}
	}
}
