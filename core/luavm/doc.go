// Package luavm runs Lua scripts as task types: one folder of scripts for each namespace, one script at a time in a fresh
// state, inside a worker process of its own (`gnomon lua-worker`) that speaks the plugin contract. It is the only package
// that knows gopher-lua. DESIGN.md says what bounds a run and why.
package luavm
