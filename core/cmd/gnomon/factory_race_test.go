//go:build race

package main

// underRace: SQLite takes twenty times as long under the race detector.
const underRace = true
