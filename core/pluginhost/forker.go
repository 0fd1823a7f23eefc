package pluginhost

import (
	"os"
	"runtime"
)

// forker starts processes from one operating-system thread that lives as long as the host. PR_SET_PDEATHSIG fires when
// the thread that forked ends, not the process; Go ends and moves threads as it likes, so only a locked one is safe.
type forker struct {
	work chan func()
	done chan struct{}
}

func startForker() *forker {
	f := &forker{work: make(chan func()), done: make(chan struct{})}
	go func() { // ends with stop
		defer close(f.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for do := range f.work {
			do()
		}
	}()
	return f
}

// start is os.StartProcess on the forker's thread. It must not be called after stop.
func (f *forker) start(name string, argv []string, attr *os.ProcAttr) (*os.Process, error) {
	var proc *os.Process
	var err error
	started := make(chan struct{})
	f.work <- func() {
		defer close(started)
		proc, err = os.StartProcess(name, argv, attr)
	}
	<-started
	return proc, err
}

// stop ends the thread; all children are dead by then.
func (f *forker) stop() {
	close(f.work)
	<-f.done
}
