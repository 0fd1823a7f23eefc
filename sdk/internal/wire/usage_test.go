package wire_test

import (
	"runtime"
	"testing"

	"github.com/gnomon-scheduler/gnomon/sdk/internal/wire"
)

// BenchmarkMeter is what measuring adds to an attempt that does nothing; it must stay below 10 µs.
func BenchmarkMeter(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ReportAllocs()
	for b.Loop() {
		var meter wire.Meter
		meter.Begin()
		meter.End()
	}
}
