package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// ForecastQuery asks what will fire: From <= instant < To, or From + Days.
type ForecastQuery struct {
	Namespaces []string  // nil: all
	From       time.Time // zero: now
	To         time.Time // zero: Days say it
	Days       int       // 1 to 31
	Bucket     time.Duration
	TaskID     string // tasks and fires of this one only, in view of all others; "": of all
	Fires      int    // how many fires are listed one by one; 0: none
}

// SpreadQuery asks for fires moved apart.
type SpreadQuery struct {
	Namespace string
	Within    time.Duration // a fire is moved by at most this much
	Apply     bool
	By        string
}

// Forecast is what will fire, with the durations that history lets one expect.
type Forecast struct {
	From       *Time       `json:"from" doc:"From this instant"`
	To         *Time       `json:"to" doc:"To this one, which is not in it"`
	Bucket     string      `json:"bucket" doc:"How long one bucket is" example:"5m"`
	Fires      int64       `json:"fires" doc:"How many in all: of schedules, and what these bring by chains and as steps of workflows"`
	Peak       int         `json:"peak" doc:"Most runs side by side, by the durations expected"`
	PeakAt     *Time       `json:"peak_at,omitempty" doc:"When that is"`
	Buckets    []Bucket    `json:"buckets" doc:"Those in which anything fires or is still running, in time"`
	Collisions []Collision `json:"collisions" doc:"Sets of tasks that start in the same minute, the heaviest first; at most 20. What one fire brings, by a chain or as steps, does not collide with itself"`
	Groups     []Load      `json:"groups" doc:"What comes upon each namespace, limit and host"`

	Tasks      []TaskForecast `json:"tasks" doc:"What each task will do, the busiest first; only the one asked for with task_id"`
	FireList   []ForecastFire `json:"fire_list,omitempty" doc:"The first fires one by one, in time, as many as were asked for with fires"`
	FiresLeft  int64          `json:"fires_left,omitempty" doc:"How many fires come after those of fire_list and are left off"`
	UsedUp     int            `json:"used_up,omitempty" doc:"Tasks whose schedule starts no more from some moment of this time on, or from before it: it has started policies.max_runs by then"`
	Unforeseen int            `json:"unforeseen,omitempty" doc:"Tasks that only people start in this time"`
	Unfollowed int            `json:"unfollowed,omitempty" doc:"Links of chains and workflows that are not followed: there are too many ways through them"`

	Counted    int `json:"counted,omitempty" doc:"Tasks that fire too often to be looked at fire by fire: they are in the numbers, and in no peak"`
	Unmeasured int `json:"unmeasured,omitempty" doc:"Tasks whose durations are not known: one second stands for them"`
}

// Bucket is what happens in a short time.
type Bucket struct {
	At      *Time `json:"at" doc:"When it begins"`
	Fires   int64 `json:"fires" doc:"Fires in it"`
	Running int   `json:"running" doc:"Most runs side by side in it, by the durations expected"`

	Busy float64 `json:"busy" doc:"Runs side by side in it on average" example:"0.25"`
}

// TaskForecast is what one task will do.
type TaskForecast struct {
	TaskID    string  `json:"task_id" doc:"The task"`
	Namespace string  `json:"namespace" doc:"The task's" example:"Common"`
	TaskName  string  `json:"task_name" doc:"The task's" example:"nightly-load"`
	Fires     int64   `json:"fires" doc:"How often it fires"`
	Caused    int64   `json:"caused,omitempty" doc:"Of these, how many are brought by ends of other tasks' runs (on success or always; failures are not expected) and by workflows whose steps they are"`
	Skipped   int64   `json:"skipped,omitempty" doc:"Fires that calendars or the clock refuse; they are not among the fires"`
	Next      []*Time `json:"next" doc:"The first of its fires, at most three, to the second"`
	Expected  string  `json:"expected" doc:"How long a run is expected to take: the median, where history knows" example:"12s"`
	P95       string  `json:"p95,omitempty" doc:"95 runs in 100 take no longer; absent: history does not know" example:"40s"`
	Basis     string  `json:"basis" enum:"history,steps,assumed" doc:"Where expected comes from: the successful runs of the last 30 days; for a workflow that has none, the longest way through its steps; or one second is assumed"`
	Measured  uint64  `json:"measured_runs,omitempty" doc:"How many runs it is known from"`
	Busy      float64 `json:"busy" doc:"Share of the time in which it will be running: 0.25 is a quarter, above 1 it runs beside itself" example:"0.25"`
	Counted   bool    `json:"counted,omitempty" doc:"It fires too often to be looked at fire by fire: it is in the numbers, and in no peak"`
}

// ForecastFire is a fire to come.
type ForecastFire struct {
	TaskID    string `json:"task_id" doc:"The task"`
	Namespace string `json:"namespace" doc:"The task's" example:"Common"`
	TaskName  string `json:"task_name" doc:"The task's" example:"nightly-load"`
	At        *Time  `json:"at" doc:"When it is expected to start, to the second, if nothing has to be waited for"`
	End       *Time  `json:"end" doc:"When it is expected to end"`
	Late      *Time  `json:"late_end,omitempty" doc:"95 runs in 100 have ended by then; absent: history does not know"`
	Assumed   bool   `json:"assumed,omitempty" doc:"Nothing is known of how long it takes: one second is assumed"`
	Cause     string `json:"cause" enum:"schedule,upstream,workflow" doc:"What brings it: its schedule, the end of another task's run, or a workflow whose step it is"`
	Of        string `json:"of,omitempty" doc:"The name of that task, or of the workflow" example:"nightly-load"`
}

// Collision is a set of tasks that start in the same minute, once or again and again.
type Collision struct {
	At     *Time          `json:"at" doc:"The first such minute"`
	Times  int            `json:"times" doc:"How many there are"`
	Starts int            `json:"starts" doc:"Fires in each"`
	Tasks  []ForecastTask `json:"tasks" doc:"What fires in it, the longest first, at most 100"`
	More   int            `json:"more,omitempty" doc:"How many tasks more"`
}

// ForecastTask is a task that fires in a collision.
type ForecastTask struct {
	TaskID    string `json:"task_id" doc:"The task"`
	Namespace string `json:"namespace" doc:"The task's" example:"Common"`
	TaskName  string `json:"task_name" doc:"The task's" example:"nightly-load"`
	Fires     int    `json:"fires" doc:"How often it fires in the minute"`
	Expected  string `json:"expected,omitempty" doc:"How long a run takes, by its history; absent: it has none" example:"12s"`
}

// Load is what comes upon a namespace, a limit or a host.
type Load struct {
	Kind        string      `json:"kind" enum:"namespace,limit,host" doc:"What it comes upon"`
	Name        string      `json:"name" doc:"Which one" example:"pool:erp"`
	Fires       int64       `json:"fires" doc:"How many in all; for a limit: runs, steps of workflows among them"`
	Peak        int         `json:"peak" doc:"Most that run, or slots that are wanted, side by side"`
	PeakAt      *Time       `json:"peak_at,omitempty" doc:"When that is"`
	PeakFires   int         `json:"peak_fires,omitempty" doc:"Most that start in one minute"`
	Limit       int         `json:"limit,omitempty" doc:"Slots there are; absent: no limit"`
	Use         float64     `json:"use,omitempty" doc:"For a limit: slots that are wanted on average, over those there are, by tasks that fire often too: 0.25 is a quarter; above 1 more is wanted than there is, and runs wait longer and longer" example:"0.25"`
	Rough       bool        `json:"rough,omitempty" doc:"Some of its runs fire too often, or are too many, to be looked at one by one: they are in fires and use, and not in peak, waiting and moments"`
	Waiting     int64       `json:"waiting,omitempty" doc:"Runs that wait for it"`
	LongestWait string      `json:"longest_wait,omitempty" doc:"How long the worst of them waits" example:"40s"`
	Moments     []Text      `json:"moments,omitempty" doc:"When more is wanted than there is, the longest waits first"`
	Collisions  []Collision `json:"collisions,omitempty" doc:"Sets of its tasks that start in the same minute"`
}

// Spread is how fires can be moved apart.
type Spread struct {
	Proposals []Proposal     `json:"proposals" doc:"Tasks whose schedule would be, or was, changed"`
	Kept      []KeptTask     `json:"kept" doc:"Tasks that start together with others and stay where they are, and why"`
	Before    SpreadForecast `json:"before" doc:"The coming week as it is"`
	After     SpreadForecast `json:"after" doc:"The same with the changes"`
	Applied   bool           `json:"applied" doc:"The changes were made"`
}

// KeptTask is a task that is not moved.
type KeptTask struct {
	TaskID   string `json:"task_id" doc:"The task"`
	TaskName string `json:"task_name" doc:"The task's" example:"nightly-load"`
	Why      Text   `json:"why" doc:"Why it stays where it is"`
}

// Proposal is a schedule that is moved.
type Proposal struct {
	TaskID   string `json:"task_id" doc:"The task"`
	TaskName string `json:"task_name" doc:"The task's" example:"nightly-load"`
	FromSpec string `json:"from_spec" doc:"Its schedule as it is" example:"0 * * * *"`
	ToSpec   string `json:"to_spec" doc:"Its schedule as it would be" example:"4 * * * *"`
	MovedBy  string `json:"moved_by" doc:"By how much each of its fires moves" example:"4m"`
	Why      Text   `json:"why" doc:"What it runs into today"`
	Problem  string `json:"problem,omitempty" doc:"Why it could not be changed"`
}

// SpreadForecast is the fullest minute of a week. What one fire brings in a minute starts as one.
type SpreadForecast struct {
	Fires     int64 `json:"fires" doc:"Fires in the week"`
	PeakAt    *Time `json:"peak_at,omitempty" doc:"When most start"`
	PeakFires int   `json:"peak_fires" doc:"Most that start in one minute"`
	Peak      int   `json:"peak" doc:"Most that run in one minute"`
	Colliding int   `json:"colliding" doc:"Minutes in which more than one starts"`
}

// SpreadRequest says how far fires may be moved.
type SpreadRequest struct {
	Within string `json:"within,omitempty" default:"30m" doc:"No fire is moved by more, 1m to 59m" example:"30m" maxLength:"32"`
	Apply  bool   `json:"apply,omitempty" doc:"Change the schedules; else they are only proposed"`
}

// The buckets of a forecast.
const (
	minBucket = time.Minute
	maxBucket = 24 * time.Hour

	maxForecast = 31 * 24 * time.Hour
)

func (a *API) forecasts() {
	tags := []string{"insight"}
	register(a, huma.Operation{
		OperationID: "forecast", Method: http.MethodGet, Path: "/v1/forecast", Tags: tags,
		Summary: "Say what will fire in the next days, when it is fullest, and what runs into what",
	}, rule{permission: "task:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			Namespace string    `query:"namespace" doc:"Only of this namespace"`
			From      time.Time `query:"from" doc:"From this instant; absent: now"`
			Days      int       `query:"days" minimum:"1" maximum:"31" default:"7" doc:"How far"`
			To        time.Time `query:"to" doc:"Up to this instant, at most 31 days after the first; absent: days say it"`
			Bucket    string    `query:"bucket" default:"5m" doc:"How long one bucket is, 1m to 24h" example:"5m" maxLength:"32"`
			TaskID    string    `query:"task_id" doc:"List only this task and its fires, by id; load, collisions and waits stay those of all" maxLength:"64"`
			Fires     int       `query:"fires" minimum:"0" maximum:"10000" default:"0" doc:"How many fires to list one by one; fires_left says how many more there are"`
		}) (*struct{ Body Forecast }, error) {
			bucket, err := time.ParseDuration(in.Bucket)
			if err != nil || bucket < minBucket || bucket > maxBucket {
				return nil, wrong(ctx, "query.bucket", core.Text{Zh: "须为 1m 到 24h 的时长，例如 5m", En: "must be a duration of 1m to 24h: 5m"})
			}
			if !in.To.IsZero() {
				from := in.From
				if from.IsZero() {
					from = a.opts.Clock.Now()
				}
				if span := in.To.Sub(from); span <= 0 || span > maxForecast {
					return nil, wrong(ctx, "query.to", core.Text{Zh: "须晚于 from（未写则为现在），最多晚 31 天", En: "must be after from (absent: now), by at most 31 days"})
				}
			}
			namespaces, err := a.visible(ctx, "task:read", in.Namespace)
			if err != nil {
				return nil, err
			}
			f, err := a.opts.Insight.Forecast(ctx, ForecastQuery{namespaces, utc(in.From), utc(in.To), in.Days, bucket, in.TaskID, in.Fires})
			if err != nil {
				return nil, err
			}
			f.Buckets, f.Groups = append([]Bucket{}, f.Buckets...), append([]Load{}, f.Groups...)
			f.Collisions, f.Tasks = append([]Collision{}, f.Collisions...), append([]TaskForecast{}, f.Tasks...)
			for i := range f.Collisions {
				f.Collisions[i].Tasks = append([]ForecastTask{}, f.Collisions[i].Tasks...)
			}
			return &struct{ Body Forecast }{f}, nil
		})
	register(a, huma.Operation{
		OperationID: "spread-forecast", Method: http.MethodPost, Path: "/v1/namespaces/{namespace}/forecast/spread", Tags: tags,
		Summary: "Propose schedules that move a namespace's fires apart, and put them in force if asked",
	}, rule{permission: "task:write", source: fromPath, changes: true},
		func(ctx context.Context, in *struct {
			NamespacePath
			Body SpreadRequest
		}) (*struct{ Body Spread }, error) {
			op := "spread the fires of " + in.Namespace
			var findings []core.Finding
			within := span(in.Body.Within, "within", &findings)
			if len(findings) == 0 && (within < time.Minute || within > 59*time.Minute) {
				findings = append(findings, core.Finding{Path: "within", Message: core.Text{Zh: "须在 1m 到 59m 之间", En: "must be between 1m and 59m"}})
			}
			if len(findings) > 0 {
				return nil, core.Invalid(op, findings...)
			}
			if _, err := a.opts.Definitions.Namespace(ctx, in.Namespace); err != nil {
				return nil, err
			}
			s, err := a.opts.Insight.Spread(ctx, SpreadQuery{in.Namespace, within, in.Body.Apply, requestOf(ctx).principal.String()})
			if err != nil {
				return nil, err
			}
			s.Proposals, s.Kept = append([]Proposal{}, s.Proposals...), append([]KeptTask{}, s.Kept...)
			return &struct{ Body Spread }{s}, nil
		})
}
