package clickhouse

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// UseBatches makes the client write as it does over ClickHouse's native protocol: by clickhouse-go's batches.
func (c *Client) UseBatches() { c.http = false }

// OnThin has something called between the steps of a thinning.
func (c *Client) OnThin(call func(step string)) { c.onThin = call }

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
func Protection(database, password string) []string { return protection(database, password, "k", nil) }

// Due says how many days would be made anew at a time of the server's clock.
func (c *Client) Due(ctx context.Context, through, now time.Time) (int, error) {
	due, err := c.due(ctx, through, now)
	if err != nil {
		return 0, err
	}
	costs, err := c.costsDue(ctx, through, now)
	return len(due) + len(costs), err
}

// Rest says how long a keeper of some age rests after a pass over some rows.
func Rest(took, age time.Duration, rows uint64) time.Duration { return rest(took, age, rows) }

// PassUntil is when a pass leaves the rest to the next.
func PassUntil(began, looked time.Time) time.Time { return passUntil(began, looked) }

// Unit is one day of a namespace to make anew.
type Unit struct {
	Namespace string
	Day       time.Time
	Rows      uint64
}

// Steps says how days are put together, as text.
func Steps(due []Unit) []string {
	units := make([]unit, len(due))
	for i, u := range due {
		units[i] = unit{u.Namespace, u.Day, u.Rows}
	}
	var all []string
	for _, s := range steps(units) {
		text := fmt.Sprint(s.namespaces)
		for _, day := range s.days {
			text += " " + day.Format(time.DateOnly)
		}
		all = append(all, text)
	}
	return all
}

// MigrationCount gives how many migrations there are.
func MigrationCount(t testing.TB) int {
	t.Helper()
	known, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	return len(known)
}

// ClusterStatements gives, for a cluster and its database, what each migration is there and then each view and what protects rows.
func ClusterStatements(t testing.TB, name, database, password string) (migrated [][]string, others []string) {
	t.Helper()
	on := &cluster{name: name, database: database}
	known, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append([]migration{{name: "schema_migrations", sql: createMigrations}}, known...) {
		all, err := on.statements(m.sql)
		if err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		migrated = append(migrated, all)
	}
	all, err := views()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		others = append(others, on.view(v, all))
	}
	return migrated, append(others, protection(database, password, "k", on)...)
}

// SchemaChange gives what a file of a migration is on a cluster.
func SchemaChange(file string) ([]string, error) {
	return (&cluster{name: "main", database: "gnomon"}).statements(file)
}

// ForANewNode gives what makes on a node that has joined the cluster what the others have.
func (c *Client) ForANewNode(ctx context.Context) ([]string, error) {
	return c.cluster.everything(ctx, c.conn)
}

// Sharded gives the tables that are spread over shards, and by what.
func Sharded() map[string]string { return sharded }

// Reach gives the steps in which a page of a task's runs is looked for.
func (c *Client) Reach(ctx context.Context, namespace, task string, newest time.Time, limit int) ([]time.Duration, error) {
	return c.reach(ctx, []string{namespace}, []string{task}, newest, limit, []time.Duration{24 * time.Hour, 35 * 24 * time.Hour, 0})
}
