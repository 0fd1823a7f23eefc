package engine

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gnomon-scheduler/gnomon/core/statement"
)

// Asker is the user name of requests for analysts. Such a request may only read the tables of Options.Readable, and of them
// the rows their policies let through. Any other user name is the server's own: whoever reaches the socket is trusted.
const Asker = "gnomon_asker"

// Readable is a table that askers may read, or, ending in *, all tables and views whose names begin so.
type Readable struct {
	Table  string
	Filter string // condition on a row, in SQL with statement.Granted; empty: all rows
}

const ownerRole = "gnomon_owner"

// accessName is the configuration file in the data folder. libchdb reads users from nowhere else, has no place to store any
// by SQL, and takes every session for the user default. So default has two roles, and a session for an asker gives up
// the owner's (SET ROLE). Row policies stand with the user and hold for every session.
const accessName = "gnomon-access.xml"

// writeAccess writes the configuration and gives its path. scopeKey seals what an asker may see.
func writeAccess(dir, scopeKey string, readable []Readable) (string, error) {
	path, err := filepath.Abs(filepath.Join(dir, accessName))
	if err != nil {
		return "", err
	}
	escape := func(text string) string {
		var b strings.Builder
		_ = xml.EscapeText(&b, []byte(text)) // a Builder does not fail
		return b.String()
	}
	var grants, policies strings.Builder
	for _, r := range readable {
		name := quoteName(r.Table)
		if prefix, all := strings.CutSuffix(r.Table, "*"); all {
			if r.Filter != "" {
				return "", fmt.Errorf("engine: %s: rows of tables that are named by their beginning cannot be filtered", r.Table)
			}
			name = prefix + "*"
		}
		fmt.Fprintf(&grants, "    <query>GRANT SELECT ON %s.%s</query>\n", database, escape(name))
		if r.Filter != "" {
			fmt.Fprintf(&policies, "    <table name=\"%s\"><filter>%s</filter></table>\n", escape(r.Table), escape(statement.Unsealed(scopeKey, r.Filter)))
		}
	}
	text := fmt.Sprintf(`<!-- Written by gnomon engine at each start: who may read what. -->
<clickhouse>
  <users_config>%[1]s</users_config>
  <user_directories><users_xml><path>%[1]s</path></users_xml></user_directories>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <roles>
   <%[2]s><grants><query>GRANT ALL ON *.* WITH GRANT OPTION</query></grants></%[2]s>
   <%[3]s><grants>
%[4]s   </grants></%[3]s>
  </roles>
  <users><default>
   <password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
   <grants><query>GRANT %[2]s, %[3]s</query></grants>
   <databases><%[5]s>
%[6]s   </%[5]s></databases>
  </default></users>
</clickhouse>
`, escape(path), ownerRole, Asker, grants.String(), database, policies.String())
	return path, os.WriteFile(path, []byte(text), 0o600)
}
