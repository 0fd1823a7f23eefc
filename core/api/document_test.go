package api_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
	"github.com/gnomon-scheduler/gnomon/openapi"
)

var update = flag.Bool("update", false, "rewrite the reviewed copy of the OpenAPI document")

func TestDocumentIsTheReviewedCopy(t *testing.T) {
	t.Parallel()
	document, err := api.Document(access.Permissions())
	if err != nil {
		t.Fatal(err)
	}
	again, err := api.Document(access.Permissions())
	if err != nil || !bytes.Equal(document, again) {
		t.Fatalf("the document differs from one call to the next: %v", err)
	}
	if *update {
		if err := os.WriteFile("../../openapi/openapi.yaml", document, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(document, openapi.Document) {
		t.Error("openapi/openapi.yaml is not what the API is; run go test ./core/api -run TestDocument -update and review the change")
	}
}
