package pluginhost_test

import (
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/coretest"
)

func subject(e core.Executor) coretest.Subject {
	return coretest.Subject{
		Executor: e, Grace: 300 * time.Millisecond,
		Talks: do("talk"), Echoes: do("echo"), Fails: do("fail"), Permanent: do("permanent"), Later: do("later"),
		Waits: do("say-and-wait"), Stubborn: do("stubborn"), Crashes: do("crash"), Unknown: coretest.Case{Type: "Test.Nobody"},
	}
}

func TestPluginIsAnExecutor(t *testing.T) {
	t.Parallel()
	coretest.ExerciseExecutor(t, subject(load(t, setup(t))))
}

func TestPoolIsAnExecutor(t *testing.T) {
	t.Parallel()
	coretest.ExerciseExecutor(t, subject(pool(t, setup(t))))
}
