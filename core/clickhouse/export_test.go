package clickhouse

// UseBatches makes the client write as it does over ClickHouse's native protocol: by clickhouse-go's batches.
func (c *Client) UseBatches() { c.http = false }

// Protection is protection.
func Protection(database, password string) []string { return protection(database, password) }
