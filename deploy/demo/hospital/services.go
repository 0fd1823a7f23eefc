package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
)

// serveWeb is the web services of the business systems, in the style of WCF (.svc) and of plain web sites. Each says
// ok; one of them is slow.
func (h *hospital) serveWeb(ctx context.Context) error {
	mux := http.NewServeMux()
	ok := func(pause time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(pause):
				_, _ = io.WriteString(w, "ok") // a caller that is gone needs no answer
			case <-r.Context().Done():
			}
		}
	}
	for _, path := range []string{"/Telemedicine/ConsultService.svc/KeepAlive", "/ImageArchive/StorageService.svc/KeepAlive", "/Portal/keepalive", "/MedicalEducation/keepalive", "/OperationManage/keepalive"} {
		mux.HandleFunc("GET "+path, ok(time.Duration(len(path)%7)*time.Millisecond))
	}
	mux.HandleFunc("GET /DataMining/keepalive", ok(150*time.Millisecond))
	return serveHTTP(ctx, webAddress, mux)
}

// serveFactory is a factory's project and production system: each of its jobs answers after a while with what it found, and
// with the batch it was given, or made if it was given none. One call in forty finds the system busy.
func (h *hospital) serveFactory(ctx context.Context) error {
	var count atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs/{job}", func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Input struct {
				Batch string `json:"batch"`
			} `json:"input"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&asked); err != nil {
			http.Error(w, "the body must be JSON: {fire_at, input}", http.StatusBadRequest)
			return
		}
		job := r.PathValue("job")
		n := count.Add(1)
		if n%40 == 0 {
			w.Header().Set("Retry-After", "5")
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		select {
		case <-time.After(time.Duration(len(job)*37%900) * time.Millisecond):
		case <-r.Context().Done():
			return
		}
		found := int64(len(job)) + n%13
		if asked.Input.Batch == "" {
			asked.Input.Batch = fmt.Sprintf("B%d", n)
		}
		w.Header().Set("Content-Type", "application/json")
		// A caller that is gone needs no answer.
		_ = json.NewEncoder(w).Encode(map[string]any{"found": found, "handled": found - n%3, "batch": asked.Input.Batch})
	})
	return serveHTTP(ctx, factoryAddress, mux)
}

// serveSMS is an SMS gateway that, like the real ones, refuses one message in five.
func (h *hospital) serveSMS(ctx context.Context) error {
	var count atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("POST /sms/send", func(w http.ResponseWriter, r *http.Request) {
		var message struct {
			Phone string `json:"phone"`
			Text  string `json:"text"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&message); err != nil || message.Phone == "" {
			http.Error(w, `{"code":"invalid","message":"phone and text are required"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if count.Add(1)%5 == 0 {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"code":"busy","message":"channel busy"}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"code":"ok","message_id":"%d"}`, count.Load())
	})
	return serveHTTP(ctx, smsAddress, mux)
}

func serveHTTP(ctx context.Context, address string, handler http.Handler) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("the hospital needs %s, which is taken: %w", address, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveMail is a mail server that keeps each message as a file in mail/.
func (h *hospital) serveMail(ctx context.Context) error {
	server := smtp.NewServer(mailbox{dir: filepath.Join(h.home, "mail"), serial: new(atomic.Int64)})
	server.Addr, server.Domain = mailAddress, "hospital.example"
	server.ReadTimeout, server.WriteTimeout = 30*time.Second, 30*time.Second
	server.MaxMessageBytes = 1 << 20
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the hospital's mail server on %s: %w", mailAddress, err)
	}
	return nil
}

type mailbox struct {
	dir    string
	serial *atomic.Int64
}

// NewSession accepts every sender.
func (m mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &letter{box: m}, nil }

// letter is one SMTP session.
type letter struct {
	box mailbox
	to  []string
}

// Mail accepts the sender.
func (l *letter) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt refuses what is not an address, as a mail server does.
func (l *letter) Rcpt(to string, _ *smtp.RcptOptions) error {
	if !strings.Contains(to, "@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	l.to = append(l.to, to)
	return nil
}

// Data keeps the message.
func (l *letter) Data(r io.Reader) error {
	name := filepath.Join(l.box.dir, fmt.Sprintf("%s-%06d.eml", time.Now().UTC().Format("20060102T150405"), l.box.serial.Add(1)))
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Flush(), file.Close())
}

// Reset forgets the recipients.
func (l *letter) Reset() { l.to = nil }

// Logout ends the session.
func (l *letter) Logout() error { return nil }
