package luavm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/metrics"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Why the interpreter itself stops a run. A script cannot catch these: the instruction after a pcall raises them again.
var (
	errInstructions = errors.New("the instruction budget is used up: the script loops without end, or does too much in one run; split the work and use ctx.checkpoint")
	errMemory       = errors.New("the script holds more memory than its worker may use; work on fewer rows at a time")
)

const (
	checkEvery  = 64               // instructions between two looks at the deadline
	memoryEvery = 1 << 13          // instructions between two looks at the heap
	memoryBytes = 16 << 20         // bytes given out by built-in functions between two looks at the heap
	heavy       = time.Millisecond // when checkEvery instructions took longer, one of them may have taken much memory
)

// budget is the context a Lua state runs under. The interpreter calls Done before every instruction (gopher-lua
// v1.1.2, mainLoopWithContext), so counting the calls bounds the run exactly, and cheaper than a deadline context does.
// It is for the interpreter's goroutine alone; what leaves it (SQL, HTTP) gets the plain context inside.
type budget struct {
	context.Context
	session *session

	left      int64     // instructions still allowed
	next      int64     // when left falls to this, check
	memNext   int64     // when left falls to this, look at the heap
	last      time.Time // of the last check
	given     int64     // bytes given out since the last look at the heap
	heapLimit uint64
	err       error
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func newBudget(ctx context.Context, s *session, instructions int64, heapLimit uint64) *budget {
	return &budget{
		Context: ctx, session: s, heapLimit: heapLimit,
		last: time.Now(), left: instructions, next: instructions - checkEvery, memNext: instructions - memoryEvery,
	}
}

// Done counts one instruction. A nil channel is never ready, which is the fast way of saying "go on".
func (b *budget) Done() <-chan struct{} {
	b.left--
	if b.left > b.next {
		return nil
	}
	if b.check() != nil {
		return closed
	}
	return nil
}

// Err says why the run is stopped, or nil.
func (b *budget) Err() error { return b.err }

func (b *budget) check() error {
	if b.err != nil {
		return b.err
	}
	b.next = b.left - checkEvery
	now := time.Now()
	slow := now.Sub(b.last) > heavy
	b.last = now
	switch {
	case b.left <= 0:
		b.stop(errInstructions)
	case b.Context.Err() != nil:
		b.stop(context.Cause(b.Context))
	case slow || b.left <= b.memNext || b.given > memoryBytes:
		b.memNext = b.left - memoryEvery
		b.given = 0
		b.weigh(0)
	}
	return b.err
}

// weigh stops the run if the heap, with the n bytes that are about to be taken, is larger than allowed.
func (b *budget) weigh(n int) {
	if b.heapLimit == 0 || heapInUse()+uint64(n) <= b.heapLimit {
		return
	}
	runtime.GC() // the figure counts garbage too: judge only what is left after a collection
	if heapInUse()+uint64(n) > b.heapLimit {
		b.stop(errMemory)
	}
}

// stop ends the run at its next instruction.
func (b *budget) stop(why error) {
	b.err = why
	b.next = math.MaxInt64
}

// charge takes the work of a built-in function from the budget, and raises if the run has to stop.
func (b *budget) charge(L *lua.LState, steps int) {
	b.left -= int64(steps)
	if b.left <= b.next {
		if err := b.check(); err != nil {
			L.RaiseError("%s", err.Error())
		}
	}
}

// give accounts for a string of n bytes that a built-in function is about to make, and raises if it is too long.
func (b *budget) give(L *lua.LState, n int) {
	if n > maxString || n < 0 {
		L.RaiseError("%s", fmt.Sprintf("the string would have %d bytes, and a string may have at most %d (64 MiB); write the pieces out one by one", n, maxString))
	}
	b.given += int64(n)
	if b.given > memoryBytes {
		b.given = 0
		b.weigh(n)
		b.next = max(b.next, b.left)
	}
	b.charge(L, n/64)
}

// ticker gives a function that charges n steps.
func ticker(L *lua.LState, n int) func() {
	b := budgetOf(L)
	return func() { b.charge(L, n) }
}

func heapInUse() uint64 {
	sample := [1]metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample[:])
	return sample[0].Value.Uint64()
}

// budgetOf gives the budget of the run L belongs to.
func budgetOf(L *lua.LState) *budget { return L.Context().(*budget) }
