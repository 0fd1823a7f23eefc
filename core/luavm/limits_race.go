//go:build race

package luavm

// shadow: the race detector keeps several bytes for each byte of the heap, all mapped as data.
const shadow = 16
