// Package catalog knows which task types there are, who provides each, and which of them a namespace may use.
package catalog

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/gnomon-scheduler/gnomon/core"
)

// CommonNamespace is the namespace whose task types every namespace may use.
const CommonNamespace = "Common"

// Catalog is the list of task types on offer. It is safe for concurrent use; the zero value is not: use New.
type Catalog struct {
	mu        sync.RWMutex
	types     map[string]entry    // by type name
	providers map[string][]string // type names by provider
	refused   map[string]string   // why, by what was refused
}

type entry struct {
	taskType core.TaskType
	provider core.Provider
}

// New gives an empty catalog.
func New() *Catalog {
	return &Catalog{types: make(map[string]entry), providers: make(map[string][]string), refused: make(map[string]string)}
}

// Offer replaces everything the provider of this name offered before. A type that another provider offers already is
// not taken over: the first keeps it, and the error (KindConflict) names both; the other types are still offered.
func (c *Catalog) Offer(providerName string, provider core.Provider, types []core.TaskType) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.withdraw(providerName)
	var names []string
	var conflict error
	for _, t := range types {
		if held, taken := c.types[t.Name]; taken {
			conflict = core.Errorf(core.KindConflict, "offer task type "+t.Name,
				"%s offers it already; %s cannot offer it too: rename one, or remove one provider", held.taskType.Provider, providerName)
			continue
		}
		t.Provider = providerName
		c.types[t.Name] = entry{taskType: t, provider: provider}
		names = append(names, t.Name)
	}
	c.providers[providerName] = names
	return conflict
}

// Refuse keeps why a plugin is not offered, for whoever misses its types. What names it: its folder.
func (c *Catalog) Refuse(what string, reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[what] = reason.Error()
}

// missing says why nobody offers a type, as far as is known.
func (c *Catalog) missing() core.Text {
	c.mu.RLock()
	defer c.mu.RUnlock()
	text := core.Text{Zh: "没有插件或脚本提供它", En: "no plugin and no script offers it"}
	for _, what := range slices.Sorted(maps.Keys(c.refused)) {
		text.Zh += "；" + what + " 未被接受：" + c.refused[what]
		text.En += "; " + what + " was refused: " + c.refused[what]
	}
	return text
}

// Withdraw takes back everything the provider offered.
func (c *Catalog) Withdraw(providerName string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.withdraw(providerName)
}

func (c *Catalog) withdraw(providerName string) {
	for _, name := range c.providers[providerName] {
		delete(c.types, name)
	}
	delete(c.providers, providerName)
}

// Types gives the types that tasks of any of the namespaces may use, by name; nil means every namespace.
func (c *Catalog) Types(namespaces []string) []core.TaskType {
	c.mu.RLock()
	defer c.mu.RUnlock()
	list := make([]core.TaskType, 0, len(c.types))
	for _, e := range c.types {
		if namespaces == nil || slices.ContainsFunc(namespaces, func(ns string) bool { return usable(ns, e.taskType.Name) }) {
			list = append(list, e.taskType)
		}
	}
	slices.SortFunc(list, func(a, b core.TaskType) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Type gives a type by name; ok is false if nobody offers it.
func (c *Catalog) Type(name string) (t core.TaskType, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.types[name]
	return e.taskType, ok
}

// Lookup gives the provider that runs a type for a namespace. It fails with KindNotFound if nobody offers the type or
// the namespace may not use it, and with KindUnavailable if the type has a problem at present. The one finding says why.
func (c *Catalog) Lookup(namespace, typeName string) (core.Provider, core.TaskType, error) {
	c.mu.RLock()
	e, ok := c.types[typeName]
	c.mu.RUnlock()
	refuse := func(kind core.Kind, why core.Text) error {
		return &core.Error{Kind: kind, Op: "look up task type " + typeName, Findings: []core.Finding{{Message: why}}}
	}
	switch {
	case !ok:
		return nil, core.TaskType{}, refuse(core.KindNotFound, c.missing())
	case !usable(namespace, typeName):
		return nil, core.TaskType{}, refuse(core.KindNotFound, core.Text{
			Zh: "命名空间 " + namespace + " 只能用自己的类型和 " + CommonNamespace + " 的类型",
			En: "namespace " + namespace + " may use only its own types and those of " + CommonNamespace})
	case e.taskType.Problem != "":
		return nil, e.taskType, refuse(core.KindUnavailable, core.Text{Zh: e.taskType.Problem, En: e.taskType.Problem})
	}
	return e.provider, e.taskType, nil
}

func usable(namespace, typeName string) bool {
	owner := core.NamespaceOf(typeName)
	return owner == namespace || owner == CommonNamespace
}
