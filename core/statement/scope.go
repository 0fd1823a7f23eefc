package statement

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Scope is whose rows a statement may see: those of all namespaces and of none, or those of the named ones only.
type Scope struct {
	All        bool
	Namespaces []string // if not All; names as package definition accepts them: letters and digits
}

// ScopeSetting is the setting of ClickHouse that carries an asker's scope to the row policies. It is a text that ClickHouse
// itself does nothing with as long as there is no query cache, and every ClickHouse from 25.8 has it. A setting of our
// own would need a configuration file on a real server.
const ScopeSetting = "query_cache_tag"

// Everything is the name that stands in a scope for all namespaces and none.
const Everything = "*"

// Granted stands in the condition of a row policy for the names in the scope of who asks, an Array(String).
const Granted = "$granted$"

// Seal gives names, parted by commas, as ScopeSetting carries them: behind a code that only who has the key can make. For a
// SETTINGS clause in a subquery changes any setting, readonly or not (measured with libchdb 26.7.3). The code is that of
// HMAC without its pads, SHA-256(key SHA-256(key names)): ClickHouse has no HMAC before 25.12.
func Seal(key, names string) string {
	inner := sha256.Sum256([]byte(key + names))
	outer := sha256.Sum256(append([]byte(key), inner[:]...))
	return strings.ToUpper(hex.EncodeToString(outer[:])) + names
}

// Unsealed puts into the condition of a row policy what Granted stands for: the names that were sealed with the key, or none.
// The key consists of letters and digits. All of it is constant, so that ClickHouse makes a condition on a table's key of it.
func Unsealed(key, condition string) string {
	const said, names = "getSetting('" + ScopeSetting + "')", "substring(getSetting('" + ScopeSetting + "'), 65)"
	code := "hex(SHA256(concat('" + key + "', SHA256(concat('" + key + "', " + names + ")))))"
	return strings.ReplaceAll(condition, Granted, "if("+code+" = substring("+said+", 1, 64), extractAll("+names+", '[^,]+'), [])")
}
