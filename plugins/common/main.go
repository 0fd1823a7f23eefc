// Command common is the plugin of the namespace Common: work that every business system needs.
package main

import "github.com/gnomon-scheduler/gnomon/sdk"

func main() { sdk.Serve(plugin()) }

func plugin() sdk.Plugin {
	return sdk.Plugin{Name: "common", Version: "1.0.0", Types: []sdk.TaskType{keepAlive, email}}
}
