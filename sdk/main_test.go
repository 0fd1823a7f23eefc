package sdk_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// The test's own program is the plugin of the tests that need a process: started with the magic cookie it serves.
func TestMain(m *testing.M) {
	if os.Getenv(protocol.Handshake.MagicCookieKey) != "" {
		sdk.Serve(childPlugin())
	}
	goleak.VerifyTestMain(m)
}

type childParams struct {
	PIDFile string `json:"pid_file"`
}

// childPlugin has a type that starts a child process, writes down its id and waits for ever.
func childPlugin() sdk.Plugin {
	hang := sdk.Define(sdk.Definition{Name: "Test.Hang", Title: sdk.Text{Zh: "挂起", En: "Hang"}},
		func(_ context.Context, run *sdk.Run, p childParams) (sdk.None, error) {
			child := exec.Command("sleep", "600")
			if err := child.Start(); err != nil {
				return sdk.None{}, err
			}
			if err := os.WriteFile(p.PIDFile, []byte(strconv.Itoa(child.Process.Pid)), 0o600); err != nil {
				return sdk.None{}, err
			}
			run.Log.Info("child started")
			return sdk.None{}, child.Wait()
		})
	return sdk.Plugin{Name: "child", Version: "0.0.1", Types: []sdk.TaskType{hang}}
}
