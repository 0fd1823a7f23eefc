package core_test

import (
	"testing"

	"github.com/gnomon-scheduler/gnomon/core"
)

func TestAnOverlapPolicyIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		policy core.Overlap
		limit  int
	}{
		"": {"", 0}, "skip": {core.OverlapSkip, 0}, "queue": {core.OverlapQueue, 0}, "queue(3)": {core.OverlapQueue, 3},
		"allow(1000)": {core.OverlapAllow, 1000}, "cancel_previous(2)": {core.OverlapCancel, 2},
	} {
		policy, limit, ok := core.ParseOverlap(text)
		if !ok || policy != want.policy || limit != want.limit {
			t.Errorf("%q: %q %d %v", text, policy, limit, ok)
		}
		if again := policy.With(limit); again != text {
			t.Errorf("%q is written %q", text, again)
		}
	}
	for _, text := range []string{"never", "(3)", "allow(", "allow()", "allow(0)", "allow(03)", "allow(+3)", "allow(-1)", "allow(3", "allow(3) ", "allow (3)", "allow(9999999999)", "Allow"} {
		if policy, limit, ok := core.ParseOverlap(text); ok {
			t.Errorf("%q is read as %q %d", text, policy, limit)
		}
	}
}

// TestABackfillsOwnOverlapComesWithItsOwnNumber: allow of a backfill is not held to the three that the task's queue(3) may have.
func TestABackfillsOwnOverlapComesWithItsOwnNumber(t *testing.T) {
	t.Parallel()
	task := core.Policies{Overlap: core.OverlapQueue, OverlapLimit: 3}
	for _, c := range []struct {
		run    core.Run
		task   core.Policies
		policy core.Overlap
		limit  int
	}{
		{core.Run{}, task, core.OverlapQueue, 3},
		{core.Run{}, core.Policies{}, core.OverlapSkip, 0},
		{core.Run{Overlap: core.OverlapAllow}, task, core.OverlapAllow, 0},
		{core.Run{Overlap: core.OverlapAllow, OverlapLimit: 2}, task, core.OverlapAllow, 2},
	} {
		if policy, limit := c.run.OverlapUnder(c.task); policy != c.policy || limit != c.limit {
			t.Errorf("%+v: %s(%d)", c, policy, limit)
		}
	}
}
