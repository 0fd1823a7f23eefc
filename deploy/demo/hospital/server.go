package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// server is the Gnomon server started beside the hospital.
type server struct {
	program string
	demo    string // folder with gnomon.yaml and tasks
	data    string
	home    string // the hospital's folder, named to the server as HOSPITAL_DIR
}

const api = "http://127.0.0.1:8080"

// run starts the server, gives it its tasks, and returns when it has ended.
func (s server) run(ctx context.Context) error {
	began := time.Now()
	runtime.LockOSThread() // Pdeathsig goes by the thread that started the child
	defer runtime.UnlockOSThread()
	cmd := s.command("server", "--config", filepath.Join(s.demo, "gnomon.yaml"), "--data", s.data)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// A group of its own: Ctrl-C reaches the hospital alone, which asks the server to end, once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.program, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the server
	if err := s.ready(ctx, ended); err != nil {
		return errors.Join(err, s.end(cmd, ended))
	}
	if ctx.Err() == nil {
		apply := s.command("apply", filepath.Join(s.demo, "tasks"))
		apply.Stdout, apply.Stderr = os.Stdout, os.Stderr
		if err := apply.Run(); err != nil {
			return errors.Join(fmt.Errorf("apply %s/tasks: %w", s.demo, err), s.end(cmd, ended))
		}
		s.greet(time.Since(began))
	}
	select {
	case err := <-ended:
		return ending(ctx, err)
	case <-ctx.Done():
		return s.end(cmd, ended)
	}
}

func (s server) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.program, args...)
	cmd.Env = append(os.Environ(), "HOSPITAL_DIR="+s.home)
	return cmd
}

// ready waits until the server schedules tasks.
func (s server) ready(ctx context.Context, ended chan error) error {
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			ended <- err
			return errors.New("the Gnomon server ended before it was ready; its messages stand above")
		case <-deadline:
			return errors.New("the Gnomon server was not ready within two minutes")
		case <-tick.C:
			answer, err := http.Get(api + "/readyz")
			if err != nil {
				continue
			}
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
}

func (s server) greet(took time.Duration) {
	fmt.Printf(`
  圭表 Gnomon runs a small hospital's background work, and a factory's (ready after %.1f s). In another terminal:

    %[2]s task list
    %[2]s run list
    %[2]s sql "SELECT task_type, count(), countIf(outcome='succeeded') FROM runs GROUP BY 1"
    %[2]s run logs -f RUN
    %[2]s task run Manufacturing/production-daily --wait      then: run workflow RUN
    %[2]s forecast -n Manufacturing

  Ctrl-C ends everything.

`, took.Seconds(), s.program)
}

// end asks the server to end, and kills it when it does not.
func (s server) end(cmd *exec.Cmd, ended chan error) error {
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-ended: // as it was asked to
		return nil
	case <-time.After(closing):
		_ = cmd.Process.Kill()
		return fmt.Errorf("the Gnomon server did not end within %s and was killed", closing)
	}
}

// ending turns the server's end into an error unless it was asked to end.
func ending(ctx context.Context, err error) error {
	if ctx.Err() == nil && err != nil {
		return fmt.Errorf("the Gnomon server ended by itself: %w", err)
	}
	return nil
}
