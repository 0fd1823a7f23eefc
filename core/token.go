package core

import "time"

// Token is what is kept of an access token: never the token itself.
type Token struct {
	Hash      string            // SHA-256 of the token, lower-case hex; its identity
	Principal string            // whose it is
	Grants    map[string]string // namespace, or "*" -> role, as package access names them
	Purpose   string            // "bootstrap", or what its owner wrote
	CreatedAt time.Time         // UTC
	ExpiresAt time.Time         // UTC; zero: never
}
