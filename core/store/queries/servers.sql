-- name: InsertServer :execrows
INSERT INTO servers (id, epoch, host, started_at, lease_until, batch) VALUES ($1, $2, $3, $4, $5, 0)
ON CONFLICT DO NOTHING;

-- name: RenewServer :execrows
UPDATE servers SET lease_until = $3 WHERE id = $1 AND epoch = $2;

-- name: DeleteServer :execrows
DELETE FROM servers WHERE id = $1 AND epoch = $2;

-- name: DeleteServers :execrows
DELETE FROM servers;

-- name: FenceServers :execrows
DELETE FROM servers WHERE lease_until < $1 AND id <> $2;

-- HoldServer waits for the lock of a server's row and changes nothing.
-- name: HoldServer :execrows
UPDATE servers SET batch = batch WHERE id = $1 AND epoch = $2;

-- name: ServerBatch :one
SELECT batch FROM servers WHERE id = $1;

-- MarkBatch is the first statement of a registered server's transaction: it holds its lease, and its number tells
-- afterwards whether the transaction was committed.
-- name: MarkBatch :execrows
UPDATE servers SET batch = $3 WHERE id = $1 AND epoch = $2;

-- name: CreateToken :execrows
INSERT INTO tokens (hash, principal, grants, purpose, created_at, expires_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6, 0)
ON CONFLICT DO NOTHING;

-- name: TokenByHash :one
SELECT hash, principal, grants, purpose, created_at, expires_at FROM tokens WHERE hash = $1 AND revoked_at = 0;

-- name: Tokens :many
SELECT hash, principal, grants, purpose, created_at, expires_at FROM tokens WHERE revoked_at = 0 ORDER BY created_at, hash;

-- name: RevokeToken :execrows
UPDATE tokens SET revoked_at = $2 WHERE hash = $1 AND revoked_at = 0;

-- name: ReadSetting :one
SELECT value FROM settings WHERE name = $1;

-- name: PutSetting :exec
INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: Leases :many
SELECT id, lease_until FROM servers;
