package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/gnomon-scheduler/gnomon/sdk"
	"github.com/gnomon-scheduler/gnomon/sdk/sqlgrant"
)

// EmailParams are the parameters of Common.Email.
type EmailParams struct {
	Batch       int    `json:"batch,omitempty" doc:"messages sent in one run at most" default:"100" minimum:"1" maximum:"5000"`
	From        string `json:"from,omitempty" doc:"sender address" default:"noreply@hospital.example"`
	MaxAttempts int    `json:"max_attempts,omitempty" doc:"a message is given up after this many tries" default:"5" minimum:"1" maximum:"100"`
}

// EmailOutput is what a run of Common.Email did.
type EmailOutput struct {
	Sent   int `json:"sent"`
	Failed int `json:"failed" doc:"to be tried again later"`
	Dead   int `json:"dead" doc:"given up"`
}

var email = sdk.Define(sdk.Definition{
	Name:        "Common.Email",
	Title:       sdk.Text{Zh: "邮件队列发送任务", En: "Send the mail queue"},
	Description: sdk.Text{Zh: "把 mail_outbox 表中待发送的邮件通过 SMTP 发出并更新状态，失败的稍后重试。", En: "Sends the pending rows of mail_outbox by SMTP and updates their state; failed ones are tried again later."},
	Needs:       []string{"sql:business", "smtp"},
	Timeout:     5 * time.Minute,
	Example:     EmailParams{Batch: 10},
}, sendQueue)

// letter is one row of mail_outbox.
type letter struct {
	id                       int64
	recipient, subject, body string
	attempts                 int
}

func sendQueue(ctx context.Context, run *sdk.Run, p EmailParams) (EmailOutput, error) {
	var out EmailOutput
	db, err := sqlgrant.DB(run, "business")
	if err != nil {
		return out, err
	}
	queue, err := due(ctx, db, p.Batch)
	if err != nil || len(queue) == 0 {
		run.Log.Info("mail queue read", "due", len(queue))
		return out, err
	}
	client, err := dial(ctx, run)
	if err != nil {
		return out, err
	}
	defer client.Close()
	for i, l := range queue {
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		sendErr := send(client, p.From, l)
		if err := record(ctx, db, l, p.MaxAttempts, sendErr); err != nil {
			return out, err
		}
		switch {
		case sendErr == nil:
			out.Sent++
			run.Log.Debug("mail sent", "mail_id", l.id)
		case l.attempts+1 >= p.MaxAttempts:
			out.Dead++
			run.Log.Error("mail given up", "mail_id", l.id, "attempts", l.attempts+1, "err", sendErr.Error())
		default:
			out.Failed++
			run.Log.Warn("mail not sent", "mail_id", l.id, "attempts", l.attempts+1, "err", sendErr.Error())
		}
		if sendErr != nil && client.Reset() != nil { // the server has hung up
			client.Close()
			if client, err = dial(ctx, run); err != nil {
				return out, err
			}
		}
		run.Progress(int64(i+1), int64(len(queue)), "")
	}
	run.Log.Info("mail queue sent", "sent", out.Sent, "failed", out.Failed, "dead", out.Dead)
	return out, nil
}

// due gives the messages that wait, oldest first.
func due(ctx context.Context, db *sql.DB, limit int) ([]letter, error) {
	rows, err := db.QueryContext(ctx, `SELECT id, recipient, subject, body, attempts FROM mail_outbox
		WHERE state IN ('pending', 'failed') AND (next_try_at IS NULL OR next_try_at <= $1) ORDER BY id LIMIT $2`, time.Now().UnixMilli(), limit)
	if err != nil {
		return nil, fmt.Errorf("read mail_outbox: %w", err)
	}
	defer rows.Close()
	var queue []letter
	for rows.Next() {
		var l letter
		if err := rows.Scan(&l.id, &l.recipient, &l.subject, &l.body, &l.attempts); err != nil {
			return nil, fmt.Errorf("read mail_outbox: %w", err)
		}
		queue = append(queue, l)
	}
	return queue, rows.Err()
}

// record writes what became of a message: sent, to be tried again with a growing pause, or given up.
func record(ctx context.Context, db *sql.DB, l letter, maxAttempts int, sendErr error) error {
	now := time.Now()
	var err error
	if sendErr == nil {
		_, err = db.ExecContext(ctx, `UPDATE mail_outbox SET state = 'sent', attempts = attempts + 1, last_error = NULL, sent_at = $1, updated_at = $1 WHERE id = $2`, now.UnixMilli(), l.id)
	} else {
		state := "failed"
		if l.attempts+1 >= maxAttempts {
			state = "dead"
		}
		next := now.Add(time.Minute << min(l.attempts, 6)).UnixMilli()
		_, err = db.ExecContext(ctx, `UPDATE mail_outbox SET state = $1, attempts = attempts + 1, last_error = $2, next_try_at = $3, updated_at = $4 WHERE id = $5`,
			state, sendErr.Error(), next, now.UnixMilli(), l.id)
	}
	if err != nil {
		return fmt.Errorf("update mail_outbox %d: %w", l.id, err)
	}
	return nil
}

// dial connects to the mail server that was granted as smtp://[user:password@]host[:port] or smtps://….
func dial(ctx context.Context, run *sdk.Run) (*mail.Client, error) {
	grant, ok := run.Grant("smtp")
	u, err := url.Parse(grant)
	if !ok || err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" {
		return nil, sdk.Permanent(errors.New("the grant smtp must be smtp://[user:password@]host[:port] or smtps://…"))
	}
	options := []mail.Option{mail.WithTimeout(20 * time.Second), mail.WithTLSPortPolicy(mail.TLSOpportunistic)}
	if u.Scheme == "smtps" {
		options = append(options, mail.WithSSLPort(false))
	}
	if u.Port() != "" {
		port, err := strconv.Atoi(u.Port())
		if err != nil {
			return nil, sdk.Permanent(errors.New("the port of the grant smtp is not a number"))
		}
		options = append(options, mail.WithPort(port))
	}
	if password, has := u.User.Password(); has {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(u.User.Username()), mail.WithPassword(password))
	}
	client, err := mail.NewClient(u.Hostname(), options...)
	if err != nil {
		return nil, sdk.Permanent(err)
	}
	if err := client.DialWithContext(ctx); err != nil {
		return nil, fmt.Errorf("connect to the mail server %s: %w", cmp.Or(u.Host, u.Hostname()), err)
	}
	return client, nil
}

func send(client *mail.Client, from string, l letter) error {
	message := mail.NewMsg()
	if err := errors.Join(message.From(from), message.To(l.recipient)); err != nil {
		return err
	}
	message.Subject(l.subject)
	message.SetBodyString(mail.TypeTextPlain, l.body)
	return client.Send(message)
}
