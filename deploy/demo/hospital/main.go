// Command hospital is a small hospital to try Gnomon on: a business database in which rows keep arriving, archived
// files, web services that answer ok, a mail server and an SMS gateway, all on loopback; and next door a factory whose
// system has jobs to be called. It starts the Gnomon server beside them, gives it the tasks of deploy/demo/tasks, and ends
// when the server ends.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Addresses of the hospital's services. deploy/demo/gnomon.yaml and deploy/demo/tasks name them too.
const (
	webAddress  = "127.0.0.1:18081" // the business systems' web and WCF services
	smsAddress  = "127.0.0.1:18082" // the SMS gateway
	mailAddress = "127.0.0.1:18025" // the mail server

	factoryAddress = "127.0.0.1:18083" // the factory's project and production system
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hospital:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || args[0] != "run" {
		return fmt.Errorf("usage: hospital run --gnomon PATH --dir FOLDER [--demo FOLDER]")
	}
	flags := flag.NewFlagSet("hospital run", flag.ContinueOnError)
	gnomon := flags.String("gnomon", "bin/gnomon", "the gnomon program to start; empty starts only the hospital")
	dir := flags.String("dir", ".data", "folder for the hospital's and Gnomon's data")
	demo := flags.String("demo", "deploy/demo", "folder with gnomon.yaml and tasks/")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	home, err := filepath.Abs(filepath.Join(*dir, "hospital"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	hospital, err := open(ctx, home)
	if err != nil {
		return err
	}
	defer hospital.close()
	services, stopServices := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServices()
	group, services := errgroup.WithContext(services)
	for _, serve := range []func(context.Context) error{hospital.serveWeb, hospital.serveFactory, hospital.serveSMS, hospital.serveMail, hospital.arrivals} {
		group.Go(func() error { return serve(services) })
	}
	if *gnomon == "" {
		fmt.Println("the hospital is open:", home)
		<-ctx.Done()
	} else {
		s := server{program: *gnomon, demo: *demo, data: filepath.Join(*dir, "gnomon"), home: home}
		group.Go(func() error { // the hospital closes when the server has ended
			defer stopServices()
			return s.run(ctx)
		})
		err := group.Wait()
		return err
	}
	stopServices()
	return group.Wait()
}

const closing = 9 * time.Second // how long the server may take to end before it is killed
