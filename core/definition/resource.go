package definition

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Held is a resource with how it is kept.
type Held[T any] = core.Held[T]

// AnyVersion stands for whatever version there is, or none, where the version that was seen is asked for.
const AnyVersion = core.AnyVersion

const (
	maxResourceName = 64 // characters
	maxSlots        = 1_000_000
)

func checkResourceName(name string) []core.Finding {
	if core.IsName(name, maxResourceName) {
		return nil
	}
	return []core.Finding{finding("name", "名称以字母或数字开头，只含字母、数字、“.”“_”“-”，至多 64 个字符",
		`the name starts with a letter or digit and has only letters, digits, ".", "_" and "-", at most 64 characters`)}
}

func read[T any](r core.Resource) (Held[T], error) {
	h := Held[T]{Version: r.Version, UpdatedAt: r.UpdatedAt, UpdatedBy: r.UpdatedBy}
	if err := json.Unmarshal(r.Doc, &h.Value); err != nil {
		return h, core.Errorf(core.KindDamaged, "read "+r.Kind+" "+r.Name, "the stored definition cannot be read: %w", err)
	}
	return h, nil
}

func one[T any](ctx context.Context, d *Definitions, kind, name string) (Held[T], error) {
	r, err := d.opts.Store.Resource(ctx, kind, name)
	if err != nil {
		return Held[T]{}, err
	}
	return read[T](r)
}

// all gives every resource of a kind, by name, without those that cannot be read.
func all[T any](ctx context.Context, d *Definitions, kind string) ([]Held[T], error) {
	resources, err := d.opts.Store.Resources(ctx, kind)
	if err != nil {
		return nil, err
	}
	list := make([]Held[T], 0, len(resources))
	for _, r := range resources {
		h, err := read[T](r)
		if err != nil {
			d.opts.Log.Error("stored definition cannot be read", "kind", r.Kind, "name", r.Name, "err", err)
			continue
		}
		list = append(list, h)
	}
	return list, nil
}

// begin is how every change of a resource begins, under linking: with what is known now, and with the version that was
// seen held against the one there is.
func (d *Definitions) begin(ctx context.Context, op, kind, name string, version int64) error {
	if err := d.Refresh(ctx); err != nil {
		return err
	}
	there := int64(0)
	for _, r := range d.held.Load().resources[kind] {
		if r.Name == name {
			there = r.Version
		}
	}
	if version != AnyVersion && version != there {
		return core.Refuse(core.KindStale, op, core.Text{
			Zh: fmt.Sprintf("%s 现在是版本 %d，而读到的是版本 %d；请重新读取后再改", core.ResourceInChinese(kind, name), there, version),
			En: fmt.Sprintf("version %d was seen, and it is %d by now; read it again", version, there),
		})
	}
	return nil
}

// keep stores a resource. What says the same as what is there is not stored again: it makes no version.
func keep[T any](ctx context.Context, d *Definitions, kind, name string, value T, version int64, by string) (Held[T], error) {
	doc, err := json.Marshal(value)
	if err != nil {
		return Held[T]{}, core.Errorf(core.KindInternal, "put "+kind+" "+name, "%w", err)
	}
	if len(doc) > maxParamsBytes {
		return Held[T]{}, core.Invalid("put "+kind+" "+name, finding("", "定义超过 256 KiB", "the definition is larger than 256 KiB"))
	}
	var said T // as it will be read again
	if err := json.Unmarshal(doc, &said); err != nil {
		return Held[T]{}, core.Errorf(core.KindInternal, "put "+kind+" "+name, "%w", err)
	}
	for _, r := range d.held.Load().resources[kind] {
		if h, err := read[T](r); r.Name == name && err == nil && reflect.DeepEqual(h.Value, said) {
			return h, nil
		}
	}
	stored, err := d.opts.Store.PutResource(ctx, core.Resource{Kind: kind, Name: name, Doc: doc, Version: max(0, version),
		UpdatedAt: d.opts.Clock.Now().UTC().Truncate(time.Microsecond), UpdatedBy: by})
	if err != nil {
		return Held[T]{}, err
	}
	return read[T](stored)
}

// remove deletes a resource that nobody uses.
func (d *Definitions) remove(ctx context.Context, kind, name string, version int64, by string) error {
	op := "delete " + kind + " " + name
	d.linking.Lock()
	defer d.linking.Unlock()
	if err := d.begin(ctx, op, kind, name, version); err != nil {
		return err
	}
	users, err := d.users(ctx, kind, name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		return core.Refuse(core.KindConflict, op, core.Text{
			Zh: core.ResourceInChinese(kind, name) + " 正在使用：" + some(users) + "；请先从那里去掉",
			En: "it is in use by " + some(users) + "; take it out of there first",
		})
	}
	if err := d.opts.Store.DeleteResource(ctx, kind, name); err != nil {
		return err
	}
	d.opts.Log.Info("resource deleted", "kind", kind, "name", name, "by", by)
	d.reread(ctx)
	return nil
}

// users names the tasks, namespaces and calendars that name a resource.
func (d *Definitions) users(ctx context.Context, kind, name string) ([]string, error) {
	refs, err := d.opts.Store.References(ctx, kind, name)
	if err != nil {
		return nil, err
	}
	if kind == kindCalendar {
		asked, err := d.opts.Store.References(ctx, kindAskedCalendar, name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, asked...)
	}
	users := make([]string, 0, len(refs))
	for _, r := range refs {
		users = append(users, "task "+r.Namespace+"/"+r.TaskName)
	}
	held := d.held.Load()
	for _, ns := range names(held.namespaces) {
		p := held.namespaces[ns].Defaults
		if kind == kindPool && slices.ContainsFunc(p.Pools, func(u core.PoolUse) bool { return u.Pool == name }) ||
			kind == kindDownstream && slices.Contains(p.Downstreams, name) ||
			kind == kindCalendar && slices.Contains(d.asked(p.Preconditions, core.MentionCalendar), name) {
			users = append(users, "the defaults of namespace "+ns)
		}
	}
	if kind == kindCalendar {
		for _, other := range names(held.calendars) {
			if c := held.calendars[other]; other != name && slices.Contains(slices.Concat(c.AllOf, c.AnyOf, c.NoneOf), name) {
				users = append(users, "calendar "+other)
			}
		}
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// tasksNaming gives the tasks that name any of the things.
func (d *Definitions) tasksNaming(ctx context.Context, kind string, things []string) ([]core.Task, error) {
	var ids []string
	for _, name := range things {
		refs, err := d.opts.Store.References(ctx, kind, name)
		if err != nil {
			return nil, err
		}
		for _, r := range refs {
			ids = append(ids, r.TaskID)
		}
	}
	slices.Sort(ids)
	tasks, _, err := d.opts.Store.Definitions(ctx, slices.Compact(ids))
	return tasks, err
}

// PutPool creates or changes a pool. It fails with KindInvalid if a task takes more slots than the pool is to have.
func (d *Definitions) PutPool(ctx context.Context, pool core.Pool, version int64, by string) (Held[core.Pool], error) {
	op := "put pool " + pool.Name
	d.linking.Lock()
	defer d.linking.Unlock()
	if err := d.begin(ctx, op, kindPool, pool.Name, version); err != nil {
		return Held[core.Pool]{}, err
	}
	found := checkResourceName(pool.Name)
	if pool.Slots < 1 || pool.Slots > maxSlots {
		found = append(found, finding("slots", fmt.Sprintf("必须在 1 到 %d 之间", maxSlots), fmt.Sprintf("must be between 1 and %d", maxSlots)))
	}
	if pool.MaxWaiting < 0 || pool.MaxWaiting > maxSlots {
		found = append(found, finding("max_waiting", fmt.Sprintf("必须在 0 到 %d 之间；0 表示 %d", maxSlots, core.DefaultMaxWaiting),
			fmt.Sprintf("must be between 0 and %d; 0 means %d", maxSlots, core.DefaultMaxWaiting)))
	}
	if len(pool.Description) > maxTextBytes {
		found = append(found, finding("description", "文字超过 16 KiB", "text is longer than 16 KiB"))
	}
	if len(found) == 0 {
		greedy, err := d.greedy(ctx, pool)
		if err != nil {
			return Held[core.Pool]{}, err
		}
		if len(greedy) > 0 {
			found = append(found, finding("slots", "有任务要的名额更多，将永远无法开始："+some(greedy)+"；请先修改它们",
				"it is used with more slots, which could never be had: "+some(greedy)+"; change these first"))
		}
	}
	if len(found) > 0 {
		return Held[core.Pool]{}, core.Invalid(op, found...)
	}
	stored, err := keep(ctx, d, kindPool, pool.Name, pool, version, by)
	if err == nil {
		d.reread(ctx)
	}
	return stored, err
}

// greedy names who takes more slots of a pool than it is to have.
func (d *Definitions) greedy(ctx context.Context, pool core.Pool) ([]string, error) {
	tasks, err := d.tasksNaming(ctx, kindPool, []string{pool.Name})
	if err != nil {
		return nil, err
	}
	more := func(p core.Policies) bool {
		return slices.ContainsFunc(p.Pools, func(u core.PoolUse) bool { return u.Pool == pool.Name && u.Slots > pool.Slots })
	}
	var list []string
	for _, t := range tasks {
		if more(t.Policies) {
			list = append(list, "task "+t.Namespace+"/"+t.Name)
		}
	}
	for _, ns := range d.held.Load().namespaces {
		if more(ns.Defaults) {
			list = append(list, "the defaults of namespace "+ns.Name)
		}
	}
	slices.Sort(list)
	return list, nil
}

// Pool gives one pool, or KindNotFound.
func (d *Definitions) Pool(ctx context.Context, name string) (Held[core.Pool], error) {
	return one[core.Pool](ctx, d, kindPool, name)
}

// Pools gives all pools, by name.
func (d *Definitions) Pools(ctx context.Context) ([]Held[core.Pool], error) {
	return all[core.Pool](ctx, d, kindPool)
}

// DeletePool removes a pool, or fails with KindConflict while tasks or namespaces name it.
func (d *Definitions) DeletePool(ctx context.Context, name string, version int64, by string) error {
	return d.remove(ctx, kindPool, name, version, by)
}

// PutDownstream creates or changes a downstream.
func (d *Definitions) PutDownstream(ctx context.Context, down core.Downstream, version int64, by string) (Held[core.Downstream], error) {
	op := "put downstream " + down.Name
	d.linking.Lock()
	defer d.linking.Unlock()
	if err := d.begin(ctx, op, kindDownstream, down.Name, version); err != nil {
		return Held[core.Downstream]{}, err
	}
	found := checkResourceName(down.Name)
	if down.Failures < 1 || down.Failures > maxFailures {
		found = append(found, finding("failures", fmt.Sprintf("必须在 1 到 %d 之间：连续失败几次后断开", maxFailures),
			fmt.Sprintf("must be between 1 and %d: after how many failures in a row it opens", maxFailures)))
	}
	if down.Cooldown < time.Second || down.Cooldown > day {
		found = append(found, finding("cooldown", "必须在 1s 到 24h 之间：断开多久后再试一次", "must be between 1s and 24h: how long it stays open before a run may try"))
	}
	if down.Probes < 0 || down.Probes > maxProbes {
		found = append(found, finding("probes", fmt.Sprintf("必须在 0 到 %d 之间；0 表示 1", maxProbes), fmt.Sprintf("must be between 0 and %d; 0 means 1", maxProbes)))
	}
	if len(down.Description) > maxTextBytes {
		found = append(found, finding("description", "文字超过 16 KiB", "text is longer than 16 KiB"))
	}
	if len(found) > 0 {
		return Held[core.Downstream]{}, core.Invalid(op, found...)
	}
	stored, err := keep(ctx, d, kindDownstream, down.Name, down, version, by)
	if err == nil {
		d.reread(ctx)
	}
	return stored, err
}

// Downstream gives one downstream, or KindNotFound.
func (d *Definitions) Downstream(ctx context.Context, name string) (Held[core.Downstream], error) {
	return one[core.Downstream](ctx, d, kindDownstream, name)
}

// Downstreams gives all downstreams, by name.
func (d *Definitions) Downstreams(ctx context.Context) ([]Held[core.Downstream], error) {
	return all[core.Downstream](ctx, d, kindDownstream)
}

// DeleteDownstream removes a downstream, or fails with KindConflict while tasks or namespaces name it.
func (d *Definitions) DeleteDownstream(ctx context.Context, name string, version int64, by string) error {
	return d.remove(ctx, kindDownstream, name, version, by)
}
