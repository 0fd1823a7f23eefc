package api

import (
	"context"

	"github.com/gnomon-scheduler/gnomon/core"
)

// PoolInput is what can be said about a pool.
type PoolInput struct {
	Description string `json:"description,omitempty" doc:"What it stands for" example:"connections of the ERP database" maxLength:"16384"`
	Slots       int    `json:"slots" minimum:"1" maximum:"1000000" doc:"How many are in use at most, over all servers and namespaces" example:"4"`
	MaxWaiting  int    `json:"max_waiting,omitempty" minimum:"0" maximum:"1000000" doc:"How many runs may wait for it, the next is skipped; absent: 1000" example:"100"`
}

// Pool is capacity that runs of any namespace share.
type Pool struct {
	Name string `json:"name" doc:"Unique" example:"erp"`
	PoolInput
	Used    int `json:"used" doc:"Slots in use now"`
	Waiting int `json:"waiting" doc:"Runs that wait for it now; see queue"`
	Kept
}

func poolSaid(p core.Pool) PoolInput {
	return PoolInput{Description: p.Description, Slots: p.Slots, MaxWaiting: p.MaxWaiting}
}

// poolSetting says how pools are kept.
func (a *API) poolSetting() setting[core.Pool, PoolInput, Pool] {
	return setting[core.Pool, PoolInput, Pool]{
		one: "pool", many: "pools", what: "pools, with what is in use and who waits",
		list: func(ctx context.Context) ([]core.Held[core.Pool], error) { return a.opts.Settings.Pools(ctx) },
		get: func(ctx context.Context, name string) (core.Held[core.Pool], error) {
			return a.opts.Settings.Pool(ctx, name)
		},
		put: func(ctx context.Context, p core.Pool, version int64, by string) (core.Held[core.Pool], error) {
			return a.opts.Settings.PutPool(ctx, p, version, by)
		},
		remove: func(ctx context.Context, name string, version int64, by string) error {
			return a.opts.Settings.DeletePool(ctx, name, version, by)
		},
		in: func(name string, in PoolInput, _ *[]core.Finding) core.Pool {
			return core.Pool{Name: name, Description: in.Description, Slots: in.Slots, MaxWaiting: in.MaxWaiting}
		},
		said: poolSaid,
		out: func(ctx context.Context, held []core.Held[core.Pool]) ([]Pool, error) {
			holdings, err := a.opts.Live.Holdings(ctx)
			if err != nil {
				return nil, err
			}
			waiting, err := a.waiting(ctx)
			if err != nil {
				return nil, err
			}
			rooms := map[string]core.Room{}
			for _, h := range holdings {
				room := rooms[h.Limit]
				room.Used += h.Slots
				rooms[h.Limit] = room
			}
			for i := range waiting {
				if waiting[i].Gate == core.GateCapacity {
					room := rooms[waiting[i].GateKey]
					room.Waiting++
					rooms[waiting[i].GateKey] = room
				}
			}
			list := make([]Pool, 0, len(held))
			for _, h := range held {
				p, room := h.Value, rooms["pool:"+h.Value.Name]
				list = append(list, Pool{
					Name: p.Name, PoolInput: poolSaid(p),
					Used: room.Used, Waiting: room.Waiting, Kept: kept(h),
				})
			}
			return list, nil
		},
	}
}

func (a *API) pools() {
	settings(a, a.poolSetting())
}
