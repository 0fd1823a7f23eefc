// Package metrics shows how a server is, in Prometheus's words, on /metrics. It is the only user of client_golang. Each
// scrape asks for the figures once; what is not known then is left out, and never shown as zero. Labels have few values
// by their nature: states, gates, verdicts, invariants, limits; never the id of a task or a run.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Options say where the figures come from. Log and Collect are required.
type Options struct {
	Log *slog.Logger
	// Collect gives the figures as they are. It is asked once per scrape, by up to MaxScrapes at once, and should answer
	// before ctx ends: a part that does not is left nil, so that the others are still seen.
	Collect    func(ctx context.Context) Figures
	Version    string        // of this program, for gnomon_build_info
	Limit      time.Duration // how long Collect may take; 0: 5 s
	MaxScrapes int           // scrapes at once; one more is answered 503. 0: 4
}

// Metrics is what a scrape is answered from. It is safe for concurrent use.
type Metrics struct {
	opts     Options
	own      *prometheus.Registry // what is counted here, and the runtime's
	scrapes  chan struct{}
	lateness prometheus.Histogram
	duration map[core.Verdict]prometheus.Observer
}

// New makes the metrics. Nothing runs between scrapes.
func New(o Options) (*Metrics, error) {
	if o.Log == nil || o.Collect == nil {
		return nil, errors.New("metrics: Log and Collect are required")
	}
	if o.Limit <= 0 {
		o.Limit = 5 * time.Second
	}
	if o.MaxScrapes <= 0 {
		o.MaxScrapes = 4
	}
	m := &Metrics{opts: o, own: prometheus.NewRegistry(), scrapes: make(chan struct{}, o.MaxScrapes), duration: make(map[core.Verdict]prometheus.Observer)}
	m.lateness = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "gnomon_run_lateness_seconds", Help: "From the nominal instant of a run to the hand-over of its first attempt; without backfills and retries, whose instants were past when they were wanted.",
		Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600},
	})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "gnomon_attempt_duration_seconds", Help: "From the hand-over of an attempt to its end, by how it ended.",
		Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600},
	}, []string{"outcome"})
	for _, v := range []core.Verdict{core.Succeeded, core.Failed, core.TimedOut, core.Cancelled, core.Crashed, core.Lost} {
		m.duration[v] = durations.WithLabelValues(string(v))
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gnomon_build_info", Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": valid(o.Version)},
	})
	build.Set(1)
	m.own.MustRegister(m.lateness, durations, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m, nil
}

// ObserveStart counts the first attempt of a run that was handed over so long after its instant; a negative lateness
// counts as none. It takes about 40 ns, allocates nothing and never waits.
func (m *Metrics) ObserveStart(lateness time.Duration) {
	m.lateness.Observe(max(0, lateness).Seconds())
}

// ObserveEnd counts an attempt that has ended. It costs as much as ObserveStart. Verdicts that are no end are ignored.
func (m *Metrics) ObserveEnd(verdict core.Verdict, duration time.Duration) {
	if of, ok := m.duration[verdict]; ok {
		of.Observe(max(0, duration).Seconds())
	}
}

// Handler answers scrapes, in the text format or the one that is asked for, compressed if the scraper likes that.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case m.scrapes <- struct{}{}:
			defer func() { <-m.scrapes }()
		default:
			http.Error(w, "too many scrapes at once", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), m.opts.Limit)
		defer cancel()
		asked := prometheus.NewRegistry()
		asked.MustRegister(snapshot{m.opts.Collect(ctx)})
		promhttp.HandlerFor(prometheus.Gatherers{m.own, asked}, promhttp.HandlerOpts{
			ErrorLog: complaint{m.opts.Log}, ErrorHandling: promhttp.ContinueOnError,
		}).ServeHTTP(w, r)
	})
}

// complaint is where promhttp says what it could not show.
type complaint struct{ log *slog.Logger }

// Println logs it.
func (c complaint) Println(said ...any) {
	c.log.Warn("metrics are incomplete", "err", fmt.Sprint(said...))
}
