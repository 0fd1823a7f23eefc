package luavm_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/core/luavm"
)

// workerEnv makes the test binary a worker: "folder|namespace|only".
const workerEnv = "LUAVM_TEST_WORKER"

func TestMain(m *testing.M) {
	if what := os.Getenv(workerEnv); what != "" {
		part := strings.Split(what, "|")
		panic(luavm.Serve(context.TODO(), luavm.Options{Dir: part[0], Namespace: part[1], Only: part[2]}))
	}
	goleak.VerifyTestMain(m)
}
