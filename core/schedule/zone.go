package schedule

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"io"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // so that time.LoadLocation works everywhere in the program, also where the host has no zone files
)

// The tz database this room goes by. It is embedded here, and not taken from time.LoadLocation, because that prefers
// the host's zone files: two servers, or a server and last year's image of it, would then disagree about instants.
// DESIGN.md says how to bring it up to date.
var (
	//go:embed zoneinfo.zip
	zoneArchive []byte
	//go:embed zoneinfo.version
	zoneVersion string
)

// TZVersion gives the release of the embedded tz database that every schedule goes by: "2025c".
func TZVersion() string { return strings.TrimSpace(zoneVersion) }

// ZoneNames gives the names of all zones, in order.
func ZoneNames() []string { return slices.Sorted(maps.Keys(archive())) }

// zone is a time zone as a table of segments of constant offset, in rising order, without holes. Beyond the tables of
// the tz database a zone follows a yearly rule, and the calendar repeats every 400 years to the day; so the table ends
// at foldEnd and what comes later is the part from foldStart to foldEnd over and over.
type zone struct {
	name   string
	loc    *time.Location
	starts []int64 // Unix second at which each segment begins; the first is the beginning of time
	offset []int64 // seconds east of UTC in each segment
	low    int     // index of the segment that holds foldStart
	folds  bool    // whether the zone still changes at foldEnd
}

const (
	foldYears = 400
	period    = 146097 * daySeconds // 400 years, in seconds
	never     = math.MaxInt64
)

// The fold lies behind the last year for which the tz database lists changes one by one (2087, Morocco).
var (
	foldStart = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	foldEnd   = foldStart + period
)

var archive = sync.OnceValue(func() map[string]*zip.File {
	r, err := zip.NewReader(bytes.NewReader(zoneArchive), int64(len(zoneArchive)))
	if err != nil {
		panic("schedule: the embedded zone archive cannot be read: " + err.Error())
	}
	files := make(map[string]*zip.File, len(r.File))
	for _, f := range r.File {
		if !strings.HasSuffix(f.Name, "/") {
			files[f.Name] = f
		}
	}
	return files
})

// zones holds each zone once it has been asked for: name -> *zone. Only names of the archive get in, so it is bounded.
var zones sync.Map

// findZone gives the zone of an IANA name, "" being UTC.
func findZone(name string) (*zone, bool) {
	if name == "" {
		name = "UTC"
	}
	if z, ok := zones.Load(name); ok {
		return z.(*zone), true
	}
	f, ok := archive()[name]
	if !ok {
		return nil, false
	}
	z, err := readZone(name, f)
	if err != nil {
		panic("schedule: zone " + name + " of the embedded archive cannot be read: " + err.Error())
	}
	kept, _ := zones.LoadOrStore(name, z)
	return kept.(*zone), true
}

func readZone(name string, f *zip.File) (*zone, error) {
	loc := time.UTC
	if name != "UTC" {
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if loc, err = time.LoadLocationFromTZData(name, data); err != nil {
			return nil, err
		}
	}
	return newZone(name, loc), nil
}

// newZone reads the segments off a location. Neighbours with the same offset (a change of name only) become one.
func newZone(name string, loc *time.Location) *zone {
	z := &zone{name: name, loc: loc}
	t := time.Time{}
	for from := int64(math.MinInt64); ; from = t.Unix() {
		_, off := t.In(loc).Zone()
		if n := len(z.offset); n == 0 || z.offset[n-1] != int64(off) {
			z.starts = append(z.starts, from)
			z.offset = append(z.offset, int64(off))
		}
		_, end := t.In(loc).ZoneBounds()
		if end.IsZero() {
			break
		}
		if !end.After(t) {
			// Go gives the end of a leap year's last segment one day early (time.tzset, go1.26), so asking again there
			// would never move on. Nothing changes in that day.
			end = time.Date(t.UTC().Year()+1, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		if end.Unix() > foldEnd+daySeconds {
			break
		}
		t = end
	}
	z.low = z.index(foldStart)
	z.folds = z.starts[len(z.starts)-1] > foldStart
	if z.folds {
		// The table ends with the start of the segment that holds foldEnd: it is the end of the last one used.
		high := z.index(foldEnd)
		z.starts, z.offset = z.starts[:high+1], z.offset[:high+1]
	}
	return z
}

func (z *zone) index(u int64) int {
	return sort.Search(len(z.starts), func(i int) bool { return z.starts[i] > u }) - 1
}

// segment is a stretch of time [start, end), in Unix seconds, throughout which a zone has one offset.
type segment struct {
	z          *zone
	i          int
	fold       int64
	start, end int64
	offset     int64
}

// local gives the stretch of local time that passes during the segment.
func (g segment) local() span {
	s := span{g.start, g.end}
	if s.from != math.MinInt64 {
		s.from += g.offset
	}
	if s.to != never {
		s.to += g.offset
	}
	return s
}

// at gives the segment that holds Unix second u.
func (z *zone) at(u int64) segment {
	fold := int64(0)
	if z.folds && u >= foldEnd {
		fold = (u - foldStart) / period * period
	}
	i := z.index(u - fold)
	if z.folds && i == len(z.starts)-1 {
		// Past the last start of the table but before foldEnd: the same segment as the one that holds foldStart.
		i, fold = z.low, fold+period
	}
	return z.segment(i, fold)
}

func (z *zone) segment(i int, fold int64) segment {
	g := segment{z: z, i: i, fold: fold, start: z.starts[i], end: never, offset: z.offset[i]}
	if fold > 0 && i == z.low {
		g.start = z.starts[len(z.starts)-1] - period
	}
	if g.start != math.MinInt64 {
		g.start += fold
	}
	if i+1 < len(z.starts) {
		g.end = z.starts[i+1] + fold
	}
	return g
}

// next gives the segment after g; g.end is not never.
func (g segment) next() segment {
	if g.z.folds && g.i+1 == len(g.z.starts)-1 {
		return g.z.segment(g.z.low, g.fold+period)
	}
	return g.z.segment(g.i+1, g.fold)
}

// prev gives the segment before g; ok is false at the beginning of time.
func (g segment) prev() (segment, bool) {
	switch {
	case g.fold > 0 && g.i == g.z.low:
		return g.z.segment(len(g.z.starts)-2, g.fold-period), true
	case g.i == 0:
		return segment{}, false
	default:
		return g.z.segment(g.i-1, g.fold), true
	}
}

// likeZones gives up to three names a person may have meant.
func likeZones(name string) []string {
	want := strings.ToLower(strings.TrimSpace(name))
	if like, ok := nicknames[want]; ok {
		return like
	}
	type near struct {
		name string
		far  int
	}
	var found []near
	for known := range archive() {
		low := strings.ToLower(known)
		city := low[strings.LastIndexByte(low, '/')+1:]
		far := min(editDistance(want, low), editDistance(want, city)+1)
		if asked := want[strings.LastIndexByte(want, '/')+1:]; asked == city {
			far = min(far, 1)
		}
		if far <= 2 {
			found = append(found, near{known, far})
		}
	}
	slices.SortFunc(found, func(a, b near) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var names []string
	for _, f := range found[:min(3, len(found))] {
		names = append(names, f.name)
	}
	return names
}

// nicknames are what people write for a zone that the tz database knows under another name. An abbreviation is not a
// zone: CST is used in Shanghai, Chicago and Havana.
var nicknames = map[string][]string{
	"beijing":      {"Asia/Shanghai"},
	"asia/beijing": {"Asia/Shanghai"},
	"china":        {"Asia/Shanghai"},
	"北京":           {"Asia/Shanghai"},
	"上海":           {"Asia/Shanghai"},
	"cst":          {"Asia/Shanghai", "America/Chicago"},
	"utc+8":        {"Asia/Shanghai", "Etc/GMT-8"},
	"gmt+8":        {"Asia/Shanghai", "Etc/GMT-8"},
	"+8":           {"Asia/Shanghai", "Etc/GMT-8"},
	"+08:00":       {"Asia/Shanghai", "Etc/GMT-8"},
	"z":            {"UTC"},
	"ist":          {"Asia/Kolkata", "Europe/Dublin", "Asia/Jerusalem"},
	"pst":          {"America/Los_Angeles"},
	"bst":          {"Europe/London"},
}

// editDistance counts the insertions, removals and replacements that turn a into b.
func editDistance(a, b string) int {
	if len(a) > len(b)+2 || len(b) > len(a)+2 {
		return 3
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
