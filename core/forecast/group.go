package forecast

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// sheet is how many start in each second and run in each, and who starts in each minute.
type sheet struct {
	starts []int32
	change []int32 // of the number that run, second by second; one longer
	who    []uint64
	inMin  []int32
	roots  []int32 // schedules from which these come
	latest []int32 // the last of them that was painted, from 1
}

func newSheet(minutes int) sheet {
	return sheet{
		starts: make([]int32, minutes*60), change: make([]int32, minutes*60+1),
		who: make([]uint64, minutes), inMin: make([]int32, minutes), roots: make([]int32, minutes), latest: make([]int32, minutes),
	}
}

// paint lays the tasks of a group side by side, on the one sheet there is: what was painted before is gone.
func (c *canvas) paint(tasks []*drawn) sheet {
	s := c.sheet
	clear(s.starts)
	clear(s.change)
	clear(s.who)
	clear(s.inMin)
	clear(s.roots)
	clear(s.latest)
	for _, d := range tasks {
		took := int32(min(int64(c.seconds), int64((d.took+time.Second-1)/time.Second)))
		took = max(1, took)
		root := int32(d.root.index) + 1
		for _, off := range d.offs {
			minute := off / 60
			s.starts[off]++
			s.inMin[minute]++
			s.who[minute] += d.mix
			if s.latest[minute] != root {
				s.latest[minute] = root
				s.roots[minute]++
			}
			s.change[off]++
			s.change[min(int(off)+int(took), c.seconds)]--
		}
	}
	return s
}

// groups gives the groups by a name, the busiest first; tasks without one are left out.
func (c *canvas) groups(name func(*drawn) string) []Group {
	members := map[string][]*drawn{}
	for _, d := range c.tasks {
		if n := name(d); n != "" {
			members[n] = append(members[n], d)
		}
	}
	list := make([]Group, 0, len(members))
	for n, tasks := range members {
		list = append(list, c.group(n, tasks, nil))
	}
	slices.SortFunc(list, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Peak, a.Peak), cmp.Compare(b.Fires, a.Fires), strings.Compare(a.Name, b.Name))
	})
	return list
}

// group sums up tasks; each is called with what was painted.
func (c *canvas) group(name string, tasks []*drawn, each func([]*drawn, sheet)) Group {
	g := Group{Name: name}
	busy := 0.0
	for _, d := range tasks {
		g.Fires += d.fires
		busy += float64(d.fires) * d.took.Seconds()
	}
	if c.seconds == 0 {
		return g
	}
	g.Busy = busy / float64(c.seconds)
	s := c.paint(tasks)
	running, second, minute := int32(0), 0, 0
	for i, n := range s.starts {
		running += s.change[i]
		if int(running) > g.Peak {
			g.Peak, second = int(running), i
		}
		g.PeakSecond = max(g.PeakSecond, int(n))
	}
	for i, n := range s.inMin {
		if int(n) > g.PeakStarts {
			g.PeakStarts, minute = int(n), i
		}
	}
	if g.Peak > 0 {
		g.PeakAt, g.PeakStartAt = c.at(second), c.at(minute*60)
	}
	g.Collisions = c.collisions(tasks, s)
	if each != nil {
		each(tasks, s)
	}
	return g
}

func (c *canvas) at(second int) time.Time { return c.from.Add(time.Duration(second) * time.Second) }

// buckets fills in the buckets of the report.
func (c *canvas) buckets(tasks []*drawn, s sheet) {
	list := c.report.Buckets
	if len(list) == 0 {
		return
	}
	width := c.in.Bucket
	of := func(second int) int { return min(int(time.Duration(second)*time.Second/width), len(list)-1) }
	running := int32(0)
	for i, n := range s.starts {
		running += s.change[i]
		b := &list[of(i)]
		b.Fires += int64(n)
		b.Peak = max(b.Peak, int(running))
	}
	for i, n := range s.inMin {
		b := &list[of(i*60)]
		b.Starts = max(b.Starts, int(n))
	}
	end := c.report.To.Sub(c.from)
	for _, d := range tasks {
		for _, off := range d.offs {
			at := time.Duration(off) * time.Second
			until := min(at+d.took, end)
			for i := int(at / width); at < until && i < len(list); i++ {
				edge := min(until, time.Duration(i+1)*width)
				list[i].Busy += float64(edge-at) / float64(width)
				at = edge
			}
		}
	}
	c.countedBuckets(tasks)
}

// countedBuckets adds the tasks that fire too often to be looked at one fire at a time.
func (c *canvas) countedBuckets(tasks []*drawn) {
	counts := map[string][]int64{}
	list := c.report.Buckets
	for _, d := range tasks {
		if !d.counted {
			continue
		}
		root := d.root
		k := root.key()
		per, known := counts[k]
		if !known {
			per = make([]int64, len(list))
			busy := len(list) // of @after: the buckets before its end
			if end := slices.IndexFunc(list, func(b Bucket) bool { return root.rest.over(b.At) }); end > 0 {
				busy = end
			}
			for i := range list {
				until := c.report.To
				if i+1 < len(list) {
					until = list[i+1].At
				}
				per[i] = root.Plan.Count(root.rest.within(list[i].At.Add(-time.Microsecond), until.Add(-time.Microsecond)))
				if root.Plan.After() > 0 && !root.rest.over(list[i].At) {
					per[i] = root.fires / int64(busy)
				}
			}
			counts[k] = per
		}
		for i, n := range per {
			if d.Pause.Holds(list[i].At) || root.Pause.Holds(list[i].At) {
				continue
			}
			list[i].Fires += n
			list[i].Busy += float64(n) * d.took.Seconds() / c.in.Bucket.Seconds()
		}
	}
}

// collisions gives the sets of tasks that start together most, each once, however often it comes.
func (c *canvas) collisions(tasks []*drawn, s sheet) []Collision {
	type set struct {
		who    uint64
		starts int32
	}
	type seen struct {
		minute, times int
		set
	}
	first := map[set]int{}
	var list []seen
	for i, n := range s.inMin {
		if s.roots[i] < 2 { // one task that fires twice, or with what it brings, collides with nobody
			continue
		}
		k := set{s.who[i], n}
		at, ok := first[k]
		if !ok {
			at = len(list)
			first[k] = at
			list = append(list, seen{minute: i, set: k})
		}
		list[at].times++
	}
	slices.SortFunc(list, func(a, b seen) int {
		return cmp.Or(cmp.Compare(b.starts, a.starts), cmp.Compare(b.times, a.times), cmp.Compare(a.minute, b.minute))
	})
	var found []Collision
	for _, k := range list {
		if len(found) == c.in.Top {
			break
		}
		hit := c.collide(tasks, s, k.minute)
		if len(hit.Tasks)+hit.More < 2 {
			continue // one task that others bring twice
		}
		hit.Times, hit.Starts = k.times, int(k.starts)
		found = append(found, hit)
	}
	return found
}

// collide gives the tasks that start in a minute.
func (c *canvas) collide(tasks []*drawn, s sheet, minute int) Collision {
	hit := Collision{At: c.at(minute * 60)}
	listed := map[int]int{} // a task may fire for several reasons
	for _, n := range s.starts[minute*60 : minute*60+60] {
		hit.Same = max(hit.Same, int(n))
	}
	for _, d := range tasks {
		i, _ := slices.BinarySearch(d.offs, int32(minute*60))
		n := 0
		for ; i < len(d.offs) && int(d.offs[i]) < minute*60+60; i++ {
			n++
		}
		if n == 0 {
			continue
		}
		hit.Load += time.Duration(n) * d.took
		if at, ok := listed[d.index]; ok {
			hit.Tasks[at].Fires += n
			continue
		}
		who := Colliding{Ref: d.ref(), Fires: n}
		if c.expect(d.index).basis != Assumed {
			who.Expected = d.took
		}
		listed[d.index] = len(hit.Tasks)
		hit.Tasks = append(hit.Tasks, who)
	}
	slices.SortStableFunc(hit.Tasks, func(a, b Colliding) int {
		return cmp.Or(cmp.Compare(b.Expected, a.Expected), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	if len(hit.Tasks) > maxListed {
		hit.More = len(hit.Tasks) - maxListed
		hit.Tasks = slices.Clone(hit.Tasks[:maxListed])
	}
	return hit
}

func (d *drawn) ref() Ref { return Ref{d.ID, d.Namespace, d.Name} }
