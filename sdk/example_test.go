package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gnomon-scheduler/gnomon/sdk"
)

// FetchParams are the parameters of Example.Fetch.
type FetchParams struct {
	URL    string       `json:"url" format:"uri" doc:"what to fetch" zh:"要访问的地址"`
	Within sdk.Duration `json:"within" default:"5s" doc:"how long an answer may take" zh:"应答时限"`
}

// FetchOutput is what Example.Fetch hands on.
type FetchOutput struct {
	Status int `json:"status"`
}

// A whole plugin: one task type and a main.
func Example() {
	fetch := sdk.Define(sdk.Definition{
		Name:  "Example.Fetch",
		Title: sdk.Text{Zh: "访问网址", En: "Fetch a URL"},
		Needs: []string{"http"},
	}, func(ctx context.Context, run *sdk.Run, p FetchParams) (FetchOutput, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(p.Within))
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
		if err != nil {
			return FetchOutput{}, sdk.Permanent(err)
		}
		req.Header.Set("Idempotency-Key", run.ID)
		response, err := run.HTTPClient().Do(req)
		if err != nil {
			return FetchOutput{}, err
		}
		defer response.Body.Close()
		run.Log.Info("fetched", "url", p.URL, "status", response.StatusCode)
		if response.StatusCode == http.StatusTooManyRequests {
			seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
			return FetchOutput{}, sdk.RetryAfter(time.Duration(seconds)*time.Second, errors.New("the server is busy"))
		}
		return FetchOutput{Status: response.StatusCode}, nil
	})
	_ = func() { // this is main
		sdk.Serve(sdk.Plugin{Name: "example", Version: "1.0.0", Types: []sdk.TaskType{fetch}})
	}
	fmt.Println(fetch.Describe().Name)
	// Output: Example.Fetch
}

func ExampleSchemaFor() {
	schema, err := sdk.SchemaFor[struct {
		Batch int    `json:"batch" default:"100" minimum:"1" doc:"rows a run"`
		Table string `json:"table"`
	}]()
	fmt.Println(string(schema), err)
	// Output: {"$schema":"https://json-schema.org/draft/2020-12/schema","additionalProperties":false,"properties":{"batch":{"default":100,"description":"rows a run","minimum":1,"type":"integer"},"table":{"type":"string"}},"required":["table"],"type":"object","x-order":["batch","table"]} <nil>
}

func ExampleSchema_Apply() {
	schema, err := sdk.CompileSchema(json.RawMessage(`{"type":"object","additionalProperties":false,
		"properties":{"batch":{"type":"integer","default":100,"minimum":1}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	full, _ := schema.Apply(nil)
	fmt.Println(string(full))
	_, findings := schema.Apply(json.RawMessage(`{"batch":0}`))
	fmt.Println(findings[0].Path, findings[0].Message.En)
	// Output:
	// {"batch":100}
	// batch must be at least 1
}

func ExampleInvalidParameters() {
	err := sdk.InvalidParameters(sdk.Finding{Path: "urls[2]", Message: sdk.Text{Zh: "不是网址", En: "is not a URL"}})
	fmt.Println(err)
	// Output: invalid parameters: urls[2]: is not a URL
}
