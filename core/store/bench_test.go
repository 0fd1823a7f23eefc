package store_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/store"
)

func cpu() time.Duration {
	var use syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &use) != nil {
		return 0
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// load makes n tasks whose mark is at(10).
func load(b *testing.B, s *store.Store, n int) []core.Task {
	b.Helper()
	namespace(b, s)
	tasks := make([]core.Task, n)
	for i := range tasks {
		tasks[i] = newTask(fmt.Sprintf("task-%07d", i), at(10))
	}
	ok(b, s.CreateTasks(b.Context(), tasks))
	for i := range tasks {
		tasks[i].Version = 1
	}
	return tasks
}

// BenchmarkRoad measures what one run costs the store from claim to shipped: claim, finish, read as ended, delete; in
// batches, as the scheduler and the runner make them.
func BenchmarkRoad(b *testing.B) {
	for _, batch := range []int{1, 50, 200, 1000} {
		for _, dialect := range []string{"sqlite", "postgres"} {
			b.Run(fmt.Sprintf("%s/batch=%d", dialect, batch), func(b *testing.B) {
				w := &world{dialect: dialect, dir: b.TempDir()}
				if dialect == "postgres" {
					w.dsn = database(b, postgres(b))
				}
				opts := w.options()
				if batch == 1 {
					opts.GroupWait = -1
				}
				s := opened(b, opts)
				tasks := load(b, s, 5000)
				claims, ends, ids := make([]core.Claim, batch), make([]core.Finish, batch), make([]string, batch)
				b.ReportAllocs()
				b.ResetTimer()
				before := cpu()
				for i := 0; i < b.N; i += batch {
					for j := range claims {
						k := i + j
						task := &tasks[k%len(tasks)]
						round := k / len(tasks)
						claims[j] = claimOf(task, at(10+round), at(11+round))
						ids[j] = claims[j].Runs[0].ID
					}
					got, err := s.Claim(b.Context(), claims)
					ok(b, err)
					for j := range got {
						if !got[j].Won {
							b.Fatal("lost a claim")
						}
						run := &claims[j].Runs[0]
						run.Token = got[j].Token
						ends[j] = finishOf(run, core.Succeeded)
						ends[j].Outcome.Usage = core.Usage{CPU: time.Millisecond, CPUSource: core.SourceMeasured, RSSSource: core.SourceShared,
							PeakRSSBytes: 1 << 24, IOSource: core.SourceUnknown}
					}
					finished, err := s.Finish(b.Context(), ends)
					ok(b, err)
					if finished[0].Stale {
						b.Fatal("stale")
					}
					ended, err := s.Ended(b.Context(), "", batch)
					ok(b, err)
					if len(ended) != batch {
						b.Fatal("ended runs are missing")
					}
					ok(b, s.Shipped(b.Context(), ids))
				}
				b.StopTimer()
				rounds := (b.N + batch - 1) / batch * batch
				b.ReportMetric(float64(rounds)/b.Elapsed().Seconds(), "runs/s")
				b.ReportMetric(float64((cpu()-before).Microseconds())/float64(rounds), "cpu-µs/run")
			})
		}
	}
}

// BenchmarkGatedRoad is BenchmarkRoad through an admission with a limit of its namespace, a pool and a breaker.
func BenchmarkGatedRoad(b *testing.B) {
	for _, batch := range []int{1, 50, 200} {
		for _, dialect := range []string{"sqlite", "postgres"} {
			b.Run(fmt.Sprintf("%s/batch=%d", dialect, batch), func(b *testing.B) {
				w := &world{dialect: dialect, dir: b.TempDir()}
				if dialect == "postgres" {
					w.dsn = database(b, postgres(b))
				}
				opts := w.options()
				if batch == 1 {
					opts.GroupWait = -1
				}
				s := opened(b, opts)
				tasks := load(b, s, 5000)
				claims, asks, ends, ids := make([]core.Claim, batch), make([]core.Admission, batch), make([]core.Finish, batch), make([]string, batch)
				b.ResetTimer()
				before := cpu()
				for i := 0; i < b.N; i += batch {
					for j := range claims {
						task, round := &tasks[(i+j)%len(tasks)], (i+j)/len(tasks)
						claims[j] = claimOf(task, at(10+round), at(11+round))
						claims[j].Gated = true
						ids[j] = claims[j].Runs[0].ID
					}
					got, err := s.Claim(b.Context(), claims)
					ok(b, err)
					for j := range got {
						claims[j].Runs[0].Token = got[j].Token
						asks[j] = askFor(&claims[j].Runs[0], at(10))
						asks[j].Overlap = core.OverlapSkip
						asks[j].Limits = []core.Limit{pool("p", 1000), {Key: "namespace:Common", Slots: 1000, Need: 1, MaxWaiting: 1}}
						asks[j].Breakers = []core.BreakerRule{{Name: "downstream:x", Failures: 3}}
					}
					admitted, err := s.Admit(b.Context(), asks)
					ok(b, err)
					for j := range admitted {
						if !admitted[j].Start {
							b.Fatalf("admitted %+v", admitted[j])
						}
						run := &claims[j].Runs[0]
						run.Token = admitted[j].Token
						ends[j] = finishOf(run, core.Succeeded)
						ends[j].Breakers = asks[j].Breakers
					}
					finished, err := s.Finish(b.Context(), ends)
					ok(b, err)
					if finished[0].Stale {
						b.Fatal("stale")
					}
					ok(b, s.Shipped(b.Context(), ids))
				}
				b.StopTimer()
				rounds := (b.N + batch - 1) / batch * batch
				b.ReportMetric(float64(rounds)/b.Elapsed().Seconds(), "runs/s")
				b.ReportMetric(float64((cpu()-before).Microseconds())/float64(rounds), "cpu-µs/run")
			})
		}
	}
}

// BenchmarkGroupCommit measures many callers that each claim and finish one run at a time.
func BenchmarkGroupCommit(b *testing.B) {
	for _, dialect := range []string{"sqlite", "postgres"} {
		b.Run(dialect, func(b *testing.B) {
			w := &world{dialect: dialect, dir: b.TempDir()}
			if dialect == "postgres" {
				w.dsn = database(b, postgres(b))
			}
			s := opened(b, w.options())
			const callers = 200
			tasks := load(b, s, callers)
			b.ResetTimer()
			before := cpu()
			var wg sync.WaitGroup
			for g := range callers {
				wg.Go(func() {
					for i := 0; i < b.N/callers+1; i++ {
						claim := claimOf(&tasks[g], at(10+i), at(11+i))
						got, err := s.Claim(b.Context(), []core.Claim{claim})
						if err != nil || !got[0].Won {
							b.Errorf("claim: %+v, %v", got, err)
							return
						}
						run := claim.Runs[0]
						run.Token = got[0].Token
						if _, err := s.Finish(b.Context(), []core.Finish{finishOf(&run, core.Succeeded)}); err != nil {
							b.Error(err)
							return
						}
						if err := s.Shipped(b.Context(), []string{run.ID}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			rounds := callers * (b.N/callers + 1)
			b.ReportMetric(float64(rounds)/b.Elapsed().Seconds(), "runs/s")
			b.ReportMetric(float64((cpu()-before).Microseconds())/float64(rounds), "cpu-µs/run")
			b.ReportMetric(float64(s.Stats().Requests)/float64(s.Stats().Commits), "calls/commit")
		})
	}
}

// BenchmarkLoad measures how fast definitions are stored in bulk.
func BenchmarkLoad(b *testing.B) {
	for _, dialect := range []string{"sqlite", "postgres"} {
		b.Run(dialect, func(b *testing.B) {
			w := &world{dialect: dialect, dir: b.TempDir()}
			if dialect == "postgres" {
				w.dsn = database(b, postgres(b))
			}
			s := opened(b, w.options())
			load(b, s, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}
