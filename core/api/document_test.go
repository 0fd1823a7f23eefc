package api_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/openapi"
)

var update = flag.Bool("update", false, "rewrite the reviewed copies of the OpenAPI document and of the definitions' schema")

// What a field means, in which bounds and for example what, is read in the document by people and programs alike.
func TestEveryFieldAndParameterIsDocumented(t *testing.T) {
	t.Parallel()
	var document *huma.OpenAPI
	if _, err := api.NewWith(setup(t).opts, func(h huma.API) { document = h.OpenAPI() }); err != nil {
		t.Fatal(err)
	}
	for name, schema := range document.Components.Schemas.Map() {
		for field, s := range schema.Properties {
			if s.Description == "" {
				t.Errorf("%s.%s says nothing", name, field)
			}
		}
	}
	seen := 0
	for path, item := range document.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete} {
			if op == nil {
				continue
			}
			if seen++; op.Summary == "" || len(op.Tags) == 0 {
				t.Errorf("%s %s has no summary or tag", op.Method, path)
			}
			for _, p := range op.Parameters {
				if p.Description == "" && (p.Schema == nil || p.Schema.Description == "") {
					t.Errorf("%s %s: %s says nothing", op.Method, path, p.Name)
				}
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d operations", seen)
	}
}

func TestDocumentsAreTheReviewedCopies(t *testing.T) {
	t.Parallel()
	for file, of := range map[string]struct {
		made     func([]string) ([]byte, error)
		reviewed []byte
	}{
		"openapi.yaml":            {api.Document, openapi.Document},
		"definitions.schema.json": {api.DefinitionSchema, openapi.DefinitionSchema},
	} {
		document, err := of.made(access.Permissions())
		if err != nil {
			t.Fatal(err)
		}
		again, err := of.made(access.Permissions())
		if err != nil || !bytes.Equal(document, again) {
			t.Fatalf("%s differs from one call to the next: %v", file, err)
		}
		if *update {
			if err := os.WriteFile("../../openapi/"+file, document, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if !bytes.Equal(document, of.reviewed) {
			t.Errorf("openapi/%s is not what the API is; run go test ./core/api -run TestDocument -update and review the change", file)
		}
	}
}
