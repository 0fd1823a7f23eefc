package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	_ "embed"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed schema.sql
var schema string

// hospital is the business database and the files that belong to it.
type hospital struct {
	home string
	db   *sql.DB
	rng  *rand.Rand
	next int64 // of ids: they rise over restarts
}

// open opens the hospital's folder and database, making them if they are new.
func open(ctx context.Context, home string) (*hospital, error) {
	for _, dir := range []string{home, filepath.Join(home, "mail"), filepath.Join(home, "archive")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(home, "business.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	h := &hospital{home: home, db: db, rng: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)), next: time.Now().UnixMilli() * 1000}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, fmt.Errorf("make the business database %s: %w", path, err)
	}
	return h, h.furnish(ctx)
}

func (h *hospital) close() { _ = h.db.Close() }

func (h *hospital) id() int64 {
	h.next++
	return h.next
}

// furnish puts in what does not arrive: organisations, doctors, storage policies; and a first day's work.
func (h *hospital) furnish(ctx context.Context) error {
	return h.transaction(ctx, func(tx *sql.Tx) error {
		for id, name := range []string{"第一人民医院", "中心医院", "妇幼保健院", "南岸社区卫生服务中心"} {
			if err := put(ctx, tx, `INSERT INTO organisation (org_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id+1, name); err != nil {
				return err
			}
			if err := put(ctx, tx, `INSERT INTO org_storage_policy (org_id, keep_days) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id+1, 30*(id+1)); err != nil {
				return err
			}
		}
		for _, doctor := range []string{"D-2001", "D-2002"} {
			if err := put(ctx, tx, `INSERT INTO duty_doctor (service_center, doctor_id) VALUES ('ECG-CENTER-1', $1) ON CONFLICT DO NOTHING`, doctor); err != nil {
				return err
			}
		}
		for range 20 {
			if err := h.arrive(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// arrivals lets patients, examinations, reservations and messages arrive, a few each second, until ctx ends.
func (h *hospital) arrivals(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := h.transaction(ctx, func(tx *sql.Tx) error { return h.arrive(ctx, tx) })
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("business database: %w", err)
		}
	}
}

func (h *hospital) transaction(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

func put(ctx context.Context, tx *sql.Tx, query string, args ...any) error {
	_, err := tx.ExecContext(ctx, query, args...)
	return err
}

// arrive is one second of the hospital's day.
func (h *hospital) arrive(ctx context.Context, tx *sql.Tx) error {
	now := time.Now()
	for _, part := range []func(context.Context, *sql.Tx, time.Time) error{h.ecg, h.reservation, h.messages, h.examination, h.documents} {
		if err := part(ctx, tx, now); err != nil {
			return err
		}
	}
	return nil
}

func (h *hospital) patient() string { return fmt.Sprintf("P-%06d", h.rng.IntN(900_000)+100_000) }

func (h *hospital) org() int { return h.rng.IntN(4) + 1 }

// ecg is an ECG to be read: some are claimed and forgotten, some written too slowly, some assigned and not done.
func (h *hospital) ecg(ctx context.Context, tx *sql.Tx, now time.Time) error {
	ms, past := now.UnixMilli(), now.Add(-time.Duration(h.rng.IntN(120))*time.Minute).UnixMilli()
	const insert = `INSERT INTO ecg_task (id, patient_id, service_center, state, created_at, claimed_by, claimed_at, write_deadline, assigned_to, assigned_at, updated_at)
		VALUES ($1, $2, 'ECG-CENTER-1', $3, $4, $5, $6, $7, $8, $9, $10)`
	switch h.rng.IntN(4) {
	case 0:
		return put(ctx, tx, insert, h.id(), h.patient(), "waiting", ms, nil, nil, nil, nil, nil, ms)
	case 1:
		return put(ctx, tx, insert, h.id(), h.patient(), "claimed", past, "D-1001", past, nil, nil, nil, past)
	case 2:
		return put(ctx, tx, insert, h.id(), h.patient(), "writing", past, "D-1002", past, past+20*60_000, nil, nil, past)
	default:
		return put(ctx, tx, insert, h.id(), h.patient(), "assigned", past, "D-1003", past, nil, "D-2001", past, past)
	}
}

// reservation is a slot that was reserved; one in two lapses at once.
func (h *hospital) reservation(ctx context.Context, tx *sql.Tx, now time.Time) error {
	starts := now.Add(time.Duration(h.rng.IntN(96)-8) * time.Hour)
	until := now.Add(time.Duration(h.rng.IntN(20)-10) * time.Minute)
	return put(ctx, tx, `INSERT INTO number_source (id, org_id, department, doctor, clinic_date, slot, starts_at, state, reserved_by, reserved_at, reserved_until, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'reserved', $8, $9, $10, $9)`,
		h.id(), h.org(), "心内科", fmt.Sprintf("D-%d", 3000+h.rng.IntN(40)), starts.Format(time.DateOnly),
		starts.Format("15:00")+"-"+starts.Add(30*time.Minute).Format("15:04"), starts.UnixMilli(), h.patient(),
		now.Add(-15*time.Minute).UnixMilli(), until.UnixMilli())
}

// messages are a mail to send and, now and then, a text message that the gateway refused.
func (h *hospital) messages(ctx context.Context, tx *sql.Tx, now time.Time) error {
	ms := now.UnixMilli()
	recipient := fmt.Sprintf("doctor%d@hospital.example", h.rng.IntN(50))
	if h.rng.IntN(40) == 0 {
		recipient = "no-address" // the queues of real systems hold such rows
	}
	err := put(ctx, tx, `INSERT INTO mail_outbox (id, recipient, subject, body, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)`,
		h.id(), recipient, "订阅报告", "您订阅的报告已生成，请登录平台查看。", ms)
	if err != nil || h.rng.IntN(2) == 0 {
		return err
	}
	return put(ctx, tx, `INSERT INTO sms_outbox (id, phone, text, state, attempts, last_error, created_at, updated_at) VALUES ($1, $2, $3, 'failed', 1, 'channel busy', $4, $4)`,
		h.id(), fmt.Sprintf("1380000%04d", h.rng.IntN(10_000)), "您的检查报告已完成，请凭短信到院领取。", ms)
}

// examination is one that was done, and what the archive says it received: one in eight disagrees or is missing.
func (h *hospital) examination(ctx context.Context, tx *sql.Tx, now time.Time) error {
	id, ms := h.id(), now.Add(-10*time.Minute).UnixMilli()
	accession, patient, modality, images := fmt.Sprintf("A%d", id), h.patient(), []string{"CT", "MR", "DX", "US"}[h.rng.IntN(4)], 1+h.rng.IntN(400)
	err := put(ctx, tx, `INSERT INTO observation_request (id, org_id, accession_no, patient_id, modality, image_count, examined_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7)`,
		id, h.org(), accession, patient, modality, images, ms)
	fault := h.rng.IntN(16)
	if err != nil || fault == 0 {
		return err
	}
	if fault == 1 {
		images--
	}
	return put(ctx, tx, `INSERT INTO exam_check_data (observation_request_id, accession_no, patient_id, modality, image_count, updated_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		id, accession, patient, modality, images, ms)
}

// documents are files in the archive, one of them older than any organisation keeps its files.
func (h *hospital) documents(ctx context.Context, tx *sql.Tx, now time.Time) error {
	ages := []time.Duration{200 * 24 * time.Hour}
	if h.rng.IntN(10) == 0 { // new ones are kept for a month at least: not too many, the demo may run for days
		ages = append(ages, 0)
	}
	for _, age := range ages {
		id, org, stored := h.id(), h.org(), now.Add(-age)
		content := make([]byte, 1024+h.rng.IntN(8192))
		for i := range content {
			content[i] = byte(h.rng.Uint32())
		}
		path := filepath.Join(fmt.Sprintf("org-%d", org), stored.Format("2006-01-02"), fmt.Sprintf("%d.dcm", id))
		full := filepath.Join(h.home, "archive", path)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(full, content, 0o600); err != nil {
			return err
		}
		err := put(ctx, tx, `INSERT INTO document (id, org_id, path, size_bytes, created_at) VALUES ($1, $2, $3, $4, $5)`, id, org, path, len(content), stored.UnixMilli())
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		err = put(ctx, tx, `INSERT INTO document_storage (document_id, volume, sha256, stored_at) VALUES ($1, 'archive-1', $2, $3)`, id, hex.EncodeToString(sum[:]), stored.UnixMilli())
		if err != nil {
			return err
		}
	}
	return nil
}
