package sqlgrant_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/gnomon-scheduler/gnomon/sdk/sdktest"
	"github.com/gnomon-scheduler/gnomon/sdk/sqlgrant"
)

type output struct {
	Sum int `json:"sum"`
}

// adder writes and reads through the grant "sql:business".
var adder = sdk.Define(sdk.Definition{
	Name: "Test.Adder", Title: sdk.Text{Zh: "求和", En: "Add up"}, Needs: []string{"sql:business"},
}, func(ctx context.Context, run *sdk.Run, _ struct{}) (out output, err error) {
	db, err := sqlgrant.DB(run, "business")
	if err != nil {
		return out, err
	}
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS n (v INTEGER)`); err != nil {
		return out, err
	}
	if _, err := db.ExecContext(ctx, `INSERT INTO n (v) VALUES ($1), ($2)`, 2, 40); err != nil {
		return out, err
	}
	return out, db.QueryRowContext(ctx, `SELECT sum(v) FROM n`).Scan(&out.Sum)
})

func attempt(t *testing.T, grants map[string]string) sdktest.Result {
	t.Helper()
	host := sdktest.Start(t, sdk.Plugin{Name: "test", Version: "1.0.0", Types: []sdk.TaskType{adder}})
	return host.Run(t.Context(), sdktest.Attempt{Type: "Test.Adder", Grants: grants})
}

func TestSQLiteGrantIsOpenedAndTakesNumberedParameters(t *testing.T) {
	t.Parallel()
	result := attempt(t, map[string]string{"sql:business": "sqlite:" + filepath.Join(t.TempDir(), "业务 库.db")})
	if result.Verdict != sdktest.Succeeded || string(result.Output) != `{"sum":42}` {
		t.Errorf("%s %s %s", result.Verdict, result.Output, result.Message)
	}
}

func TestWhatWasNotGrantedIsAPermanentFailureThatSaysHow(t *testing.T) {
	t.Parallel()
	result := attempt(t, nil)
	if result.Verdict != sdktest.Failed || !result.Permanent || !strings.Contains(result.Message, "sql:business") {
		t.Errorf("%s permanent=%t %q", result.Verdict, result.Permanent, result.Message)
	}
}

func TestAGrantThatIsNotUnderstoodIsRefusedWithoutShowingIt(t *testing.T) {
	t.Parallel()
	for _, grant := range []string{"oracle://scott:tiger@host/db", "sqlite:", "postgres://u:s3cretvalue@[bad/db"} {
		result := attempt(t, map[string]string{"sql:business": grant})
		if result.Verdict != sdktest.Failed || !result.Permanent {
			t.Errorf("%s: %s permanent=%t", grant, result.Verdict, result.Permanent)
		}
		if strings.Contains(result.Message, "tiger") || strings.Contains(result.Message, "s3cretvalue") {
			t.Errorf("the message shows the secret: %s", result.Message)
		}
	}
}
