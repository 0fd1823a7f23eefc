// Package core holds the nouns of Gnomon and the seams between its rooms: standard library only, no goroutines,
// no I/O. Every other room imports it; it imports none of them.
//
// # Glossary
//
//   - Namespace: one business system. Rights, quotas, secrets and plugins are per namespace.
//   - Task type: something that can be run, named Namespace.Type. A plugin or a Lua script provides it.
//   - Task: a task type plus parameters plus a schedule plus policies.
//   - Schedule: when a task fires.
//   - Fire: (task, nominal instant). Every fire ends in exactly one decision: started, or skipped with a reason.
//   - Run: what a started fire becomes. Attempt: one try of a run. Outcome: an attempt's, and at last the run's, verdict.
//   - Log line, sample: what an attempt says, and what it uses.
//
// # The life of one run, and the room that does each step
//
//  1. definition accepts a task and schedule finds its next fire; store keeps both.
//  2. scheduler finds the fire due and claims it: one transaction moves the task's mark and inserts the run.
//  3. runner starts the claimed run at its instant and hands each attempt to an executor.
//  4. pluginhost carries the attempt to a plugin or a Lua worker (luavm) and streams back what it says.
//  5. recorder makes log lines and samples durable; clickhouse receives them in whole segments.
//  6. runner writes the outcome to store; the finished row is shipped to clickhouse and only then deleted.
//  7. api, and the views in clickhouse, answer questions about all of it.
package core
