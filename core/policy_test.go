package core_test

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// leaf is a field of policies that is said by itself.
type leaf struct {
	name string // as in Zeros
	of   func(p *core.Policies) reflect.Value
}

// leaves gives every one, those of blocks too.
func leaves() (all []leaf) {
	snake := func(name string) string {
		return strings.ToLower(regexp.MustCompile(`([a-z0-9])([A-Z])`).ReplaceAllString(name, "${1}_$2"))
	}
	policies := reflect.TypeFor[core.Policies]()
	for i := range policies.NumField() {
		f := policies.Field(i)
		if f.Name == "Zeros" {
			continue
		}
		if f.Type.Kind() != reflect.Struct {
			all = append(all, leaf{snake(f.Name), func(p *core.Policies) reflect.Value { return reflect.ValueOf(p).Elem().Field(i) }})
			continue
		}
		for k := range f.Type.NumField() {
			if inner := f.Type.Field(k).Name; inner != "Name" { // Gnomon names the breaker
				all = append(all, leaf{snake(f.Name) + "." + snake(inner), func(p *core.Policies) reflect.Value { return reflect.ValueOf(p).Elem().Field(i).Field(k) }})
			}
		}
	}
	return all
}

// full gives policies in which every field says something.
func full(t *testing.T) core.Policies {
	t.Helper()
	var p core.Policies
	for _, l := range leaves() {
		switch f := l.of(&p); f.Kind() {
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
		for _, l := range leaves() {
			if l.name == "overlap_limit" {
				continue
			}
			said := full(t)
			var p core.Policies
			defaults := core.Policies{OverlapLimit: said.OverlapLimit}
			l.of(&p).Set(l.of(&said))
			got, other := p.Over(core.Policies{MaxAttempts: 9}), full(t)
			if !reflect.DeepEqual(l.of(&got).Interface(), l.of(&said).Interface()) {
				t.Errorf("%s did not stay", l.name)
			}
			l.of(&defaults).Set(l.of(&said))
			l.of(&other).SetZero()
			if got := other.Over(defaults); !reflect.DeepEqual(got, said) {
				t.Errorf("%s alone was left out: %+v", l.name, got)
			}
		}
	})
	t.Run("AZeroThatIsWrittenStays", func(t *testing.T) {
		t.Parallel()
		words := []string{"overlap", "overlap_limit", "catch_up", "retry_backoff", "log_level", "log_full"} // have a word for each choice
		for _, l := range leaves() {
			if slices.Contains(words, l.name) {
				continue
			}
			p, want := core.Policies{Zeros: []string{l.name}}, full(t)
			if f := l.of(&p); f.Kind() == reflect.Slice {
				p.Zeros = nil
				f.Set(reflect.MakeSlice(f.Type(), 0, 0))
			}
			want.Zeros = p.Zeros
			l.of(&want).Set(l.of(&p))
			if got := p.Over(full(t)); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, want %+v", l.name, got, want)
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

// It counts allocations, so nothing else may run meanwhile.
func TestPoliciesOverCostNoAllocation(t *testing.T) { //nolint:paralleltest // see above
	p, defaults := core.Policies{Zeros: []string{"stop_after"}, MaxAttempts: 2}, full(t)
	if n := testing.AllocsPerRun(100, func() { p.Over(defaults) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
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
