// Package access knows who asks: principals, their tokens, what their roles let them do in which namespace, and the
// audit chain that keeps what they did.
package access

import (
	"slices"
)

// Permission is one thing a role may allow. The list is closed; package api names one for every operation.
type Permission = string

// The permissions.
const (
	NamespaceRead  Permission = "namespace:read"
	NamespaceWrite Permission = "namespace:write"
	TypeRead       Permission = "type:read"
	TaskRead       Permission = "task:read"
	TaskWrite      Permission = "task:write"    // create, change, delete, enable, disable, pause, resume, spread
	TaskRun        Permission = "task:run"      // run now, backfill, run a workflow again
	RunRead        Permission = "run:read"      // runs, attempts, log lines, samples
	RunCancel      Permission = "run:cancel"    // cancel and terminate
	RunIntervene   Permission = "run:intervene" // decide about runs put before a person, reset breakers
	HistoryQuery   Permission = "history:query" // free SQL over history
	ServerRead     Permission = "server:read"   // version, store, engine, spool
	SettingsRead   Permission = "settings:read" // calendars, holidays, pools, downstreams: what all namespaces share
	SettingsWrite  Permission = "settings:write"
	TokenManage    Permission = "token:manage" // make, list and revoke tokens
)

// Everywhere is the namespace of a grant that holds in all of them.
const Everywhere = "*"

// Role is a named set of permissions.
type Role string

// The roles. A grant names one of them for one namespace, or for Everywhere.
const (
	Admin    Role = "admin"    // everything
	Editor   Role = "editor"   // changes tasks, and all an operator may
	Operator Role = "operator" // starts and cancels, changes nothing
	Analyst  Role = "analyst"  // reads, and asks history by SQL
	Viewer   Role = "viewer"   // reads
)

var viewing = []Permission{NamespaceRead, TypeRead, TaskRead, RunRead, ServerRead, SettingsRead}

var allowed = map[Role][]Permission{
	Admin: {
		NamespaceRead, NamespaceWrite, TypeRead, TaskRead, TaskWrite, TaskRun, RunRead, RunCancel, RunIntervene, HistoryQuery,
		ServerRead, SettingsRead, SettingsWrite, TokenManage,
	},
	Editor:   append(slices.Clone(viewing), TaskWrite, TaskRun, RunCancel, RunIntervene),
	Operator: append(slices.Clone(viewing), TaskRun, RunCancel, RunIntervene),
	Analyst:  append(slices.Clone(viewing), HistoryQuery),
	Viewer:   viewing,
}

// Roles gives every role, the mightiest first.
func Roles() []Role { return []Role{Admin, Editor, Operator, Analyst, Viewer} }

// Permissions gives every permission there is.
func Permissions() []Permission { return slices.Clone(allowed[Admin]) }

// Allows reports whether a role has a permission. An unknown role has none.
func (r Role) Allows(p Permission) bool { return slices.Contains(allowed[r], p) }

// Known reports whether the role is one of Roles.
func (r Role) Known() bool { _, ok := allowed[r]; return ok }

// Principal is who asks: a name for the audit, and what was granted to it.
type Principal struct {
	Name   string
	Grants map[string]Role // namespace, or Everywhere -> role
}

// String gives the principal's name.
func (p Principal) String() string { return p.Name }

// Can reports whether the principal has a permission in a namespace. Everywhere asks for a grant that holds in all
// namespaces, those of tomorrow included. What was not granted is denied.
func (p Principal) Can(perm Permission, namespace string) bool {
	if p.Grants[Everywhere].Allows(perm) {
		return true
	}
	return namespace != "" && namespace != Everywhere && p.Grants[namespace].Allows(perm)
}

// Scope gives the namespaces in which the principal has a permission, sorted; all is true if that is every one.
func (p Principal) Scope(perm Permission) (all bool, namespaces []string) {
	if p.Can(perm, Everywhere) {
		return true, nil
	}
	for ns, role := range p.Grants {
		if role.Allows(perm) {
			namespaces = append(namespaces, ns)
		}
	}
	slices.Sort(namespaces)
	return false, namespaces
}
