//go:build !race

package luavm

// shadow is how many bytes the process maps for each byte of its heap.
const shadow = 1
