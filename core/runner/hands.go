package runner

// maxFree bounds the goroutines that are kept for the next run.
const maxFree = 64

// hand begins a run in a goroutine that has done one before, if any is free, else in a new one. An attempt needs a stack of
// 16 KiB, which a new goroutine comes to by copying it three times: 8 % of the server's time for a run that does little.
func (r *Runner) hand(l *liveRun) {
	select {
	case r.hands <- l:
	default:
		go r.work(l) // ends with the runner, or when enough others are free
	}
}

// work begins one run after another.
func (r *Runner) work(l *liveRun) {
	for {
		r.begin(l)
		if r.free.Add(1) > maxFree {
			r.free.Add(-1)
			return
		}
		select {
		case l = <-r.hands:
			r.free.Add(-1)
		case <-r.base.Done():
			return
		}
	}
}
