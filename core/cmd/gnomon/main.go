// Command gnomon is the whole product in one program: the server, its child processes, and the command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker: make build.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
