package api_test

import (
	"encoding/json"
	"testing"

	"github.com/gnomon-scheduler/gnomon/core/access"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

// TestHowMuchOthersHaveWrittenIsShownToThoseWhoSeeAll: the rest of how the server is, to all.
func TestHowMuchOthersHaveWrittenIsShownToThoseWhoSeeAll(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for namespace, all := range map[string]bool{"*": true, "Common": false} {
		var s api.Status
		if err := json.Unmarshal([]byte(w.must(200, w.do(w.token(access.Analyst, namespace), "GET", "/v1/server", "")).raw), &s); err != nil {
			t.Fatal(err)
		}
		if shown := len(s.History.Tables) == 1 && s.History.Tables[0].Rows == 1556; shown != all {
			t.Errorf("an analyst of %s: tables are %+v", namespace, s.History.Tables)
		}
		if shown := s.History.DiskBytes > 0 || s.Spool.ShippedLines > 0 || s.Spool.LinesPerSecond > 0; shown != all {
			t.Errorf("an analyst of %s: %+v, %+v", namespace, s.History, s.Spool)
		}
		if !s.Ready || !s.History.Answers || s.Spool.Unshipped != 3 {
			t.Errorf("an analyst of %s does not see how the server is: %+v", namespace, s)
		}
	}
}
