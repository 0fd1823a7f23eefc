//go:build !race

package pluginhost_test

import (
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/pluginhost"
)

// The race detector maps terabytes of shadow memory, which no RLIMIT_DATA allows.

func TestATreeThatTakesTooMuchMemoryEnds(t *testing.T) {
	t.Parallel()
	h := setup(t, func(o *pluginhost.Options) { o.Limits.MemoryBytes = 160 << 20 })
	out, _ := run(t, t.Context(), pool(t, h), do("memory"), "memory")
	if out.Verdict != core.Crashed || !strings.Contains(out.Message, "out of memory") {
		t.Errorf("outcome %+v", out)
	}
}
