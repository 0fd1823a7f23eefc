// Command monitor is the plugin of the namespace Monitor: it watches the host it runs on.
package main

import "github.com/gnomon-scheduler/gnomon/sdk"

func main() { sdk.Serve(plugin()) }

func plugin() sdk.Plugin {
	return sdk.Plugin{Name: "monitor", Version: "1.0.0", Types: []sdk.TaskType{performance, processes, storage, heartbeat}}
}
