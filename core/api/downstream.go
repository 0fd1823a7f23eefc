package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// DownstreamInput is what can be said about a downstream.
type DownstreamInput struct {
	Description string `json:"description,omitempty" doc:"What it is" example:"the hospital information system" maxLength:"16384"`
	Failures    int    `json:"failures" minimum:"1" maximum:"1000" doc:"So many failed attempts in a row, of any task that names it, open its breaker" example:"5"`
	Cooldown    string `json:"cooldown" doc:"How long the breaker stays open before one run may try, 1s to 24h" example:"5m" minLength:"1" maxLength:"32"`
	Probes      int    `json:"probes,omitempty" minimum:"0" maximum:"100" doc:"So many tries in a row must succeed to close it; absent: 1" example:"1"`
}

// Downstream is something that tasks of any namespace touch, with one breaker for all of them.
type Downstream struct {
	Name string `json:"name" doc:"Unique" example:"his"`
	DownstreamInput
	Breaker Breaker `json:"breaker" doc:"How its breaker stands"`
	Kept
}

// Breaker is a circuit breaker as it stands.
type Breaker struct {
	Name      string `json:"name" doc:"downstream: and its name, or task: and the task's id" example:"downstream:his"`
	State     string `json:"state" enum:"closed,open,half_open" doc:"closed: runs pass; open: none passes before probe_at, then one; half_open: probe_run tries, the others wait for what comes of it"`
	Failures  int    `json:"failures" doc:"Attempts in a row that failed"`
	Successes int    `json:"successes" doc:"Probes in a row that succeeded"`
	OpenedAt  *Time  `json:"opened_at,omitempty" doc:"When it last opened"`
	ProbeAt   *Time  `json:"probe_at,omitempty" doc:"open: when a run may try"`
	ProbeRun  string `json:"probe_run,omitempty" doc:"half_open: the run that tries; shown to those who may see every namespace, or the task the breaker belongs to"`
	Because   string `json:"because,omitempty" doc:"Message of the last failure; shown to the same"`
	UpdatedAt *Time  `json:"updated_at,omitempty" doc:"When it last moved; absent: never"`
}

// breakerOut gives a breaker; full says that the caller may see whose failures moved it.
func breakerOut(b core.Breaker, full bool) Breaker {
	out := Breaker{
		Name: b.Name, State: string(cmp.Or(b.State, core.BreakerClosed)), Failures: b.Failures, Successes: b.Successes,
		OpenedAt: instant(b.OpenedAt), UpdatedAt: instant(b.UpdatedAt),
	}
	if b.State == core.BreakerOpen {
		out.ProbeAt = instant(b.ProbeAt)
	}
	if full {
		out.ProbeRun, out.Because = b.ProbeRun, b.Because
	}
	return out
}

func downstreamSaid(d core.Downstream) DownstreamInput {
	return DownstreamInput{d.Description, d.Failures, duration(d.Cooldown), d.Probes}
}

// downstreamSetting says how downstreams are kept.
func (a *API) downstreamSetting() setting[core.Downstream, DownstreamInput, Downstream] {
	return setting[core.Downstream, DownstreamInput, Downstream]{
		one: "downstream", many: "downstreams", what: "downstreams, with their breakers",
		list: func(ctx context.Context) ([]core.Held[core.Downstream], error) {
			return a.opts.Settings.Downstreams(ctx)
		},
		get: func(ctx context.Context, name string) (core.Held[core.Downstream], error) {
			return a.opts.Settings.Downstream(ctx, name)
		},
		put: func(ctx context.Context, d core.Downstream, version int64, by string) (core.Held[core.Downstream], error) {
			return a.opts.Settings.PutDownstream(ctx, d, version, by)
		},
		remove: func(ctx context.Context, name string, version int64, by string) error {
			return a.opts.Settings.DeleteDownstream(ctx, name, version, by)
		},
		in: func(name string, in DownstreamInput, findings *[]core.Finding) core.Downstream {
			return core.Downstream{
				Name: name, Description: in.Description, Failures: in.Failures, Cooldown: span(in.Cooldown, "cooldown", findings), Probes: in.Probes,
			}
		},
		said: downstreamSaid,
		out: func(ctx context.Context, held []core.Held[core.Downstream]) ([]Downstream, error) {
			breakers, err := a.opts.Live.Breakers(ctx)
			if err != nil {
				return nil, err
			}
			all := requestOf(ctx).principal.Can("run:read", everywhere)
			list := make([]Downstream, 0, len(held))
			for _, h := range held {
				d, name := h.Value, "downstream:"+h.Value.Name
				b := core.Breaker{Name: name}
				if i := slices.IndexFunc(breakers, func(b core.Breaker) bool { return b.Name == name }); i >= 0 {
					b = breakers[i]
				}
				list = append(list, Downstream{
					Name: d.Name, DownstreamInput: downstreamSaid(d),
					Breaker: breakerOut(b, all), Kept: kept(h),
				})
			}
			return list, nil
		},
	}
}

func (a *API) downstreams() {
	settings(a, a.downstreamSetting())
}

func (a *API) breakers() {
	tags := []string{"breakers"}
	register(a, huma.Operation{
		OperationID: "list-breakers", Method: http.MethodGet, Path: "/v1/breakers", Tags: tags,
		Summary: "List the circuit breakers of downstreams, and of the tasks the caller may see, that ever moved",
	}, rule{permission: "run:read", source: fromGrants},
		func(ctx context.Context, in *struct {
			State []string `query:"state" enum:"closed,open,half_open" doc:"Only in one of these states"`
		}) (*listed[Breaker], error) {
			all, err := a.opts.Live.Breakers(ctx)
			if err != nil {
				return nil, err
			}
			var seen []Breaker
			who := requestOf(ctx).principal
			everything := who.Can("run:read", everywhere)
			slices.SortFunc(all, func(x, y core.Breaker) int { return cmp.Compare(x.Name, y.Name) })
			for _, b := range all {
				full := everything
				if id, ofTask := strings.CutPrefix(b.Name, taskBreaker); ofTask && !everything {
					task, err := a.opts.Definitions.Task(ctx, id)
					if err != nil && core.KindOf(err) != core.KindNotFound {
						return nil, err
					}
					if err != nil || !who.Can("run:read", task.Namespace) {
						continue
					}
					full = true
				}
				if out := breakerOut(b, full); len(in.State) == 0 || slices.Contains(in.State, out.State) {
					seen = append(seen, out)
				}
			}
			return list(seen), nil
		})
	register(a, huma.Operation{
		OperationID: "reset-breaker", Method: http.MethodPost, Path: "/v1/breakers/{name}/reset", Tags: tags,
		Summary: "Close a breaker by hand: what waits at it goes on",
	}, rule{permission: "run:intervene", source: fromBreaker, changes: true},
		func(ctx context.Context, in *struct {
			Name string `path:"name" doc:"downstream: and its name, or task: and the task's id" example:"downstream:his" maxLength:"256"`
		}) (*struct{ Body Breaker }, error) {
			b, err := a.opts.Runner.ResetBreaker(ctx, in.Name, requestOf(ctx).principal.String())
			if err != nil {
				return nil, err
			}
			return &struct{ Body Breaker }{breakerOut(b, true)}, nil
		})
}
