// Command imagearchive is the plugin of the namespace ImageArchive: work on the archive's files.
package main

import "github.com/gnomon-scheduler/gnomon/sdk"

func main() { sdk.Serve(plugin()) }

func plugin() sdk.Plugin {
	return sdk.Plugin{Name: "imagearchive", Version: "1.0.0", Types: []sdk.TaskType{documentDeletion}}
}
