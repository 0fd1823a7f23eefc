// Package pluginhost starts, verifies, limits, supervises and kills the processes that run tasks: plugins, and pools of
// Lua workers. It is the sole owner of hashicorp/go-plugin and grpc in core. DESIGN.md says how and why.
package pluginhost
