package core_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// full gives policies in which every field says something.
func full(t *testing.T) core.Policies {
	t.Helper()
	var p core.Policies
	v := reflect.ValueOf(&p).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("said")
		case reflect.Int, reflect.Int64:
			f.SetInt(7)
		case reflect.Float64:
			f.SetFloat(0.5)
		case reflect.Uint8:
			f.SetUint(2)
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Struct:
			f.Set(reflect.ValueOf(map[reflect.Type]any{
				reflect.TypeFor[core.BreakerRule](): core.BreakerRule{Failures: 3, Cooldown: time.Minute},
				reflect.TypeFor[core.SLA]():         core.SLA{StartWithin: time.Minute},
			}[f.Type()]))
		default:
			t.Fatalf("no value for a field of kind %s: extend this test", f.Kind())
		}
	}
	return p
}

func TestPoliciesOver(t *testing.T) {
	t.Parallel()
	t.Run("WhatIsNotSaidIsTheDefault", func(t *testing.T) {
		t.Parallel()
		defaults := full(t)
		if got := (core.Policies{}).Over(defaults); !reflect.DeepEqual(got, defaults) {
			t.Errorf("got %+v, want %+v", got, defaults)
		}
	})
	t.Run("WhatIsSaidStays", func(t *testing.T) {
		t.Parallel()
		p := full(t)
		if got := p.Over(core.Policies{}); !reflect.DeepEqual(got, p) {
			t.Errorf("got %+v, want %+v", got, p)
		}
	})
	t.Run("FieldByField", func(t *testing.T) {
		t.Parallel()
		defaults := full(t)
		for i := range reflect.ValueOf(defaults).NumField() {
			name := reflect.TypeOf(defaults).Field(i).Name
			if name == "OverlapLimit" {
				continue
			}
			var p core.Policies
			reflect.ValueOf(&p).Elem().Field(i).Set(reflect.ValueOf(defaults).Field(i))
			got := p.Over(core.Policies{MaxAttempts: 9})
			if !reflect.DeepEqual(reflect.ValueOf(got).Field(i).Interface(), reflect.ValueOf(p).Field(i).Interface()) {
				t.Errorf("%s did not stay", name)
			}
		}
	})
	t.Run("AnOverlapPolicyComesWithItsOwnLimit", func(t *testing.T) {
		t.Parallel()
		got := core.Policies{Overlap: core.OverlapQueue}.Over(core.Policies{Overlap: core.OverlapAllow, OverlapLimit: 5})
		if got.Overlap != core.OverlapQueue || got.OverlapLimit != 0 {
			t.Errorf("got %s(%d)", got.Overlap, got.OverlapLimit)
		}
	})
}

func TestWhenMatches(t *testing.T) {
	t.Parallel()
	verdicts := []core.Verdict{core.Succeeded, core.Failed, core.TimedOut, core.Crashed, core.Lost, core.Cancelled, core.Skipped, ""}
	for when, want := range map[core.When][]bool{
		"":             {true, false, false, false, false, false, false, false},
		core.OnSuccess: {true, false, false, false, false, false, false, false},
		core.OnFailure: {false, true, true, true, true, false, false, false},
		core.OnAlways:  {true, true, true, true, true, true, false, false},
	} {
		for i, v := range verdicts {
			if got := when.Matches(v); got != want[i] {
				t.Errorf("%q after %q: %t", when, v, got)
			}
		}
	}
}

func TestPauseHolds(t *testing.T) {
	t.Parallel()
	since, until := noon, noon.Add(time.Hour)
	for _, c := range []struct {
		name  string
		pause core.Pause
		at    time.Time
		want  bool
	}{
		{"None", core.Pause{}, noon, false},
		{"Before", core.Pause{Since: since}, noon.Add(-1), false},
		{"AtItsBeginning", core.Pause{Since: since}, noon, true},
		{"WithoutEnd", core.Pause{Since: since}, noon.AddDate(400, 0, 0), true},
		{"JustBeforeItsEnd", core.Pause{Since: since, Until: until}, until.Add(-1), true},
		{"AtItsEnd", core.Pause{Since: since, Until: until}, until, false},
	} {
		if got := c.pause.Holds(c.at); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
