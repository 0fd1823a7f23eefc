// Package ledger answers two questions from what is on record: why an instant of a task was decided as it was, and
// whether every instant that should have a decision has exactly one. It is pure: no I/O, no clock, no goroutines. What is
// to be judged is handed in: the versions of the task, its rows, and the schedule's meaning. DESIGN.md says how.
package ledger
