package clickhouse

// UseBatches makes the client write as it does over ClickHouse's native protocol: by clickhouse-go's batches.
func (c *Client) UseBatches() { c.http = false }
