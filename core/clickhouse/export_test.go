package clickhouse

import "testing"

// UseBatches makes the client write as it does over ClickHouse's native protocol: by clickhouse-go's batches.
func (c *Client) UseBatches() { c.http = false }

// View is one file of views.
type View struct{ Name, Header, Example string }

// Views gives the files of views.
func Views(t testing.TB) []View {
	t.Helper()
	known, err := views()
	if err != nil {
		t.Fatal(err)
	}
	all := make([]View, len(known))
	for i, v := range known {
		all[i] = View{v.name, v.header, v.example}
	}
	return all
}

// Protection is protection.
func Protection(database, password string) []string { return protection(database, password) }
