package catalog_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/catalog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is told apart by its name.
type provider struct{ name string }

func (provider) Execute(context.Context, core.Attempt, core.Sink) (core.Outcome, error) {
	return core.Outcome{Verdict: core.Succeeded}, nil
}

func (provider) Validate(context.Context, string, json.RawMessage) ([]core.Finding, error) {
	return nil, nil
}

func types(names ...string) []core.TaskType {
	list := make([]core.TaskType, len(names))
	for i, name := range names {
		list[i] = core.TaskType{Name: name, Version: "1.0.0", ParamsSchema: json.RawMessage(`{}`)}
	}
	return list
}

func offer(t *testing.T, c *catalog.Catalog, name string, offered ...string) {
	t.Helper()
	if err := c.Offer(name, provider{name}, types(offered...)); err != nil {
		t.Fatal(err)
	}
}

func names(list []core.TaskType) string {
	all := make([]string, len(list))
	for i, t := range list {
		all[i] = t.Name
	}
	return strings.Join(all, " ")
}

func TestAnOfferReplacesWhatTheProviderOfferedBefore(t *testing.T) {
	t.Parallel()
	c := catalog.New()
	offer(t, c, "plugin:a", "Imaging.One", "Imaging.Two")
	offer(t, c, "plugin:b", "Lab.One")
	offer(t, c, "plugin:a", "Imaging.Two", "Imaging.Three")
	if got := names(c.Types(nil)); got != "Imaging.Three Imaging.Two Lab.One" {
		t.Errorf("types %s", got)
	}
	if found, ok := c.Type("Imaging.Two"); !ok || found.Provider != "plugin:a" {
		t.Errorf("type %+v, %t", found, ok)
	}
	c.Withdraw("plugin:a")
	c.Withdraw("plugin:a")
	c.Withdraw("plugin:never")
	if got := names(c.Types(nil)); got != "Lab.One" {
		t.Errorf("after the withdrawal: %s", got)
	}
	if _, _, err := c.Lookup("Imaging", "Imaging.Two"); core.KindOf(err) != core.KindNotFound {
		t.Errorf("a withdrawn type gave %v", err)
	}
}

// TestTheFirstProviderKeepsItsType: a second one is told who has it, and its other types are offered.
func TestTheFirstProviderKeepsItsType(t *testing.T) {
	t.Parallel()
	c := catalog.New()
	offer(t, c, "plugin:first", "Imaging.One")
	err := c.Offer("plugin:second", provider{"plugin:second"}, types("Imaging.One", "Imaging.Two"))
	if core.KindOf(err) != core.KindConflict || !strings.Contains(err.Error(), "plugin:first") || !strings.Contains(err.Error(), "plugin:second") {
		t.Errorf("the second offer gave %v; want a conflict that names both", err)
	}
	got, _, err := c.Lookup("Imaging", "Imaging.One")
	if err != nil || got.(provider).name != "plugin:first" {
		t.Errorf("the type is run by %v, %v", got, err)
	}
	if _, _, err := c.Lookup("Imaging", "Imaging.Two"); err != nil {
		t.Error(err)
	}
	c.Withdraw("plugin:second")
	if got := names(c.Types(nil)); got != "Imaging.One" {
		t.Errorf("withdrawing the second took %s", got)
	}
}

func TestCommonIsForAllAndEachNamespaceForItself(t *testing.T) {
	t.Parallel()
	c := catalog.New()
	offer(t, c, "plugin:common", "Common.KeepAlive")
	offer(t, c, "plugin:imaging", "Imaging.Export")
	for namespace, want := range map[string]string{"Imaging": "Common.KeepAlive Imaging.Export", "Lab": "Common.KeepAlive", "Common": "Common.KeepAlive"} {
		if got := names(c.Types([]string{namespace})); got != want {
			t.Errorf("%s may use %s; want %s", namespace, got, want)
		}
		for _, typeName := range []string{"Common.KeepAlive", "Imaging.Export", "Common.Nothing", "NoDot"} {
			_, _, err := c.Lookup(namespace, typeName)
			if may := slices.Contains(strings.Fields(want), typeName); may != (err == nil) || err != nil && core.KindOf(err) != core.KindNotFound {
				t.Errorf("%s looks up %s: %v", namespace, typeName, err)
			}
		}
	}
	if got := names(c.Types([]string{})); got != "" {
		t.Errorf("nobody may use %s", got)
	}
}

func TestATypeWithAProblemIsShownAndNotRun(t *testing.T) {
	t.Parallel()
	c := catalog.New()
	broken := types("Lab.Broken")
	broken[0].Problem = "line 3: '=' expected"
	if err := c.Offer("lua:Lab/Broken.lua", nil, broken); err != nil {
		t.Fatal(err)
	}
	if got := names(c.Types([]string{"Lab"})); got != "Lab.Broken" {
		t.Errorf("types %s", got)
	}
	if _, shown, err := c.Lookup("Lab", "Lab.Broken"); core.KindOf(err) != core.KindUnavailable || !strings.Contains(err.Error(), "line 3") || shown.Name == "" {
		t.Errorf("looked up %+v, %v", shown, err)
	}
}
