package definition_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/definition"
)

func TestARefusedResourceNamesTheField(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 4})
	w.create(t, func(task *core.Task) { task.Policies.Pools = []core.PoolUse{{Pool: "erp", Slots: 3}} })
	w.namespace(t, core.Namespace{Name: "Imaging", Defaults: core.Policies{Pools: []core.PoolUse{{Pool: "erp", Slots: 4}}}})
	pool := func(p core.Pool) error {
		_, err := w.PutPool(t.Context(), p, definition.AnyVersion, "ann")
		return err
	}
	down := func(d core.Downstream) error {
		_, err := w.PutDownstream(t.Context(), d, definition.AnyVersion, "ann")
		return err
	}
	long := strings.Repeat("x", 17<<10)
	minute := time.Minute
	for name, c := range map[string]struct {
		err  error
		path string
		says string
	}{
		"PoolName":           {pool(core.Pool{Name: "a b", Slots: 1}), "name", "letter or digit"},
		"PoolSlots":          {pool(core.Pool{Name: "a"}), "slots", "between 1"},
		"PoolWaiting":        {pool(core.Pool{Name: "a", Slots: 1, MaxWaiting: -1}), "max_waiting", "0 means 1000"},
		"PoolDescription":    {pool(core.Pool{Name: "a", Slots: 1, Description: long}), "description", "16 KiB"},
		"PoolShrinks":        {pool(core.Pool{Name: "erp", Slots: 2}), "slots", "task Telemedicine/ping, the defaults of namespace Imaging"},
		"DownstreamName":     {down(core.Downstream{Failures: 1, Cooldown: minute}), "name", "letter or digit"},
		"DownstreamFailures": {down(core.Downstream{Name: "a", Cooldown: minute}), "failures", "between 1"},
		"DownstreamCooldown": {down(core.Downstream{Name: "a", Failures: 1}), "cooldown", "1s and 24h"},
		"DownstreamProbes":   {down(core.Downstream{Name: "a", Failures: 1, Cooldown: minute, Probes: -1}), "probes", "0 means 1"},
		"DownstreamText":     {down(core.Downstream{Name: "a", Failures: 1, Cooldown: minute, Description: long}), "description", "16 KiB"},
	} {
		t.Run(name, func(t *testing.T) { wantFinding(t, c.err, c.path, c.says) })
	}
}

func TestAResourceHasVersions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	pool := core.Pool{Name: "erp", Slots: 4}
	first, err := w.PutPool(t.Context(), pool, 0, "ann")
	if err != nil || first.Version != 1 || first.UpdatedBy != "ann" || !first.UpdatedAt.Equal(noon) || first.Value != pool {
		t.Fatalf("first %+v, %v", first, err)
	}
	if _, err := w.PutPool(t.Context(), pool, 0, "bob"); core.KindOf(err) != core.KindStale {
		t.Errorf("creating it again gave %v", err)
	}
	if same, err := w.PutPool(t.Context(), pool, 1, "bob"); err != nil || same != first {
		t.Errorf("saying the same made %+v, %v", same, err)
	}
	pool.Slots = 5
	if second, err := w.PutPool(t.Context(), pool, 1, "bob"); err != nil || second.Version != 2 || second.UpdatedBy != "bob" {
		t.Errorf("second %+v, %v", second, err)
	}
	if _, err := w.PutPool(t.Context(), pool, 1, "ann"); core.KindOf(err) != core.KindStale {
		t.Errorf("a change of an old version gave %v", err)
	}
	if got, err := w.Pool(t.Context(), "erp"); err != nil || got.Value != pool || got.Version != 2 {
		t.Errorf("read %+v, %v", got, err)
	}
	if list, err := w.Pools(t.Context()); err != nil || len(list) != 1 || list[0].Value != pool {
		t.Errorf("listed %+v, %v", list, err)
	}
	if err := w.DeletePool(t.Context(), "erp", 1, "ann"); core.KindOf(err) != core.KindStale {
		t.Errorf("deleting an old version gave %v", err)
	}
	if err := w.DeletePool(t.Context(), "erp", 2, "ann"); err != nil {
		t.Errorf("deleting gave %v", err)
	}
	if _, err := w.Pool(t.Context(), "erp"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("reading what is gone gave %v", err)
	}
	if err := w.DeletePool(t.Context(), "erp", definition.AnyVersion, "ann"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("deleting what is gone gave %v", err)
	}
	w.downstream(t, "his")
	if got, err := w.Downstream(t.Context(), "his"); err != nil || got.Value.Failures != 3 {
		t.Errorf("read %+v, %v", got, err)
	}
	if list, err := w.Downstreams(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("listed %+v, %v", list, err)
	}
}

func TestWhatIsInUseIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 4})
	w.downstream(t, "his")
	w.calendar(t, core.Calendar{Name: "plant", Weekdays: []string{"mon"}})
	w.calendar(t, core.Calendar{Name: "shift", AllOf: []string{"plant"}})
	task := w.create(t, func(task *core.Task) {
		task.Policies.Pools, task.Policies.Downstreams = []core.PoolUse{{Pool: "erp"}}, []string{"his"}
		task.Schedule.OnlyOn = []string{"shift"}
	})
	w.namespace(t, core.Namespace{Name: "Imaging", Defaults: core.Policies{Pools: []core.PoolUse{{Pool: "erp"}}, Downstreams: []string{"his"}}})
	deletes := map[string]func() error{
		"erp":   func() error { return w.DeletePool(t.Context(), "erp", definition.AnyVersion, "ann") },
		"his":   func() error { return w.DeleteDownstream(t.Context(), "his", definition.AnyVersion, "ann") },
		"shift": func() error { return w.DeleteCalendar(t.Context(), "shift", definition.AnyVersion, "ann") },
		"plant": func() error { return w.DeleteCalendar(t.Context(), "plant", definition.AnyVersion, "ann") },
	}
	refused := func(name, by string) {
		t.Helper()
		if err := deletes[name](); core.KindOf(err) != core.KindConflict || !strings.Contains(err.Error(), "in use by "+by) {
			t.Errorf("deleting %s gave %v; want it to name %s", name, err, by)
		}
	}
	refused("erp", "task Telemedicine/ping, the defaults of namespace Imaging")
	refused("his", "task Telemedicine/ping, the defaults of namespace Imaging")
	refused("shift", "task Telemedicine/ping")
	refused("plant", "calendar shift")
	if err := w.Delete(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	refused("erp", "the defaults of namespace Imaging")
	w.namespace(t, core.Namespace{Name: "Imaging"})
	for _, name := range []string{"erp", "his", "shift", "plant"} {
		if err := deletes[name](); err != nil {
			t.Errorf("deleting %s when nobody uses it gave %v", name, err)
		}
	}
}

// TestAStoredDefinitionThatCannotBeReadSpoilsNothingElse: one bad row of the store.
func TestAStoredDefinitionThatCannotBeReadSpoilsNothingElse(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pool(t, core.Pool{Name: "erp", Slots: 4})
	if _, err := w.store.PutResource(t.Context(), core.Resource{Kind: "pool", Name: "torn", Doc: []byte(`{"slots":"many"}`)}); err != nil {
		t.Fatal(err)
	}
	w.create(t, func(task *core.Task) { task.Policies.Pools = []core.PoolUse{{Pool: "erp"}} })
	if list, err := w.Pools(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("listed %+v, %v", list, err)
	}
	if _, err := w.Pool(t.Context(), "torn"); core.KindOf(err) != core.KindDamaged {
		t.Errorf("reading it gave %v", err)
	}
	w.pool(t, core.Pool{Name: "torn", Slots: 1}) // mended
	if list, err := w.Pools(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("listed %+v, %v", list, err)
	}
}
