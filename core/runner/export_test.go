package runner

// Shares gives how many shares of limits the runner counts as held.
func (r *Runner) Shares() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.shares)
}
