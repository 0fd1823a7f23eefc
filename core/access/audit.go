package access

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Act is one security-relevant act, as it is about to take effect. It never holds a body, a token or a parameter.
type Act struct {
	At        time.Time `json:"at"` // UTC
	Seq       uint64    `json:"seq"`
	Principal string    `json:"principal"`
	Operation string    `json:"operation"`           // the API's operation id: "run-task"
	Namespace string    `json:"namespace,omitempty"` // "" or "*": not of one namespace
	Resource  string    `json:"resource"`            // the path asked for
	Allowed   bool      `json:"allowed"`
	RequestID string    `json:"request_id"`
	Remote    string    `json:"remote"` // the client's address
	Prev      string    `json:"prev"`   // the hash of the line before; "" in the first
}

// An audit line is the SHA-256 of the act's JSON in hex, a space, and that JSON. As the JSON holds the hash of the line
// before, changing, removing or inserting a line breaks the chain from there on. (Cutting the end off does not: whoever
// needs to notice that compares the last hash with one kept elsewhere.)

// maxAuditLine bounds one line; paths are bounded far below by the HTTP server.
const maxAuditLine = 64 << 10

// Audit is the append-only, hash-chained file of what was done. Safe for concurrent use.
type Audit struct {
	clock core.Clock

	mu   sync.Mutex
	file *os.File
	seq  uint64
	prev string
	err  error // the first failed append; after it nothing more is accepted
}

// OpenAudit opens or begins the audit file (mode 0600) and checks the whole chain. A line cut short by a crash, which was
// never acknowledged, is removed; a chain that is broken anywhere else is refused with KindDamaged.
func OpenAudit(path string, clock core.Clock) (*Audit, error) {
	if clock == nil {
		clock = core.SystemClock{}
	}
	const op = "open the audit file"
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, core.Errorf(core.KindUnavailable, op, "%w", err)
	}
	seq, prev, whole, err := verify(file)
	if err == nil {
		err = file.Truncate(whole)
	}
	if err == nil {
		_, err = file.Seek(whole, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(core.Errorf(core.KindDamaged, op,
			"%s: %w; keep the file as evidence, move it away and start again", path, err), file.Close())
	}
	return &Audit{clock: clock, file: file, seq: seq, prev: prev}, nil
}

// VerifyAudit checks a file's chain and gives the number of acts in it and the last hash.
func VerifyAudit(path string) (acts uint64, last string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = file.Close() }()
	acts, last, _, err = verify(file)
	return acts, last, err
}

// verify reads a chain from its beginning. whole is the length of the part made of complete lines.
func verify(r io.Reader) (seq uint64, prev string, whole int64, err error) {
	lines := bufio.NewReaderSize(r, maxAuditLine)
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return seq, prev, whole, nil // what is left of an incomplete last line is not counted
		}
		if err != nil {
			return seq, prev, whole, fmt.Errorf("line %d: %w", seq+1, err)
		}
		sum, body, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
		var act Act
		switch {
		case !ok || hashText(body) != string(sum):
			return seq, prev, whole, fmt.Errorf("line %d does not match its hash", seq+1)
		case json.Unmarshal(body, &act) != nil || act.Seq != seq+1 || act.Prev != prev:
			return seq, prev, whole, fmt.Errorf("line %d does not follow the line before", seq+1)
		}
		seq, prev = act.Seq, string(sum)
		whole += int64(len(line))
	}
}

// Record appends an act and returns once it is on disk. The act may take effect only after that: an error means it must
// not. After a failed append the file is left alone and every later call fails too.
func (a *Audit) Record(_ context.Context, act Act) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return core.Errorf(core.KindUnavailable, "write the audit file", "%w", a.err)
	}
	act.At, act.Seq, act.Prev = a.clock.Now().UTC(), a.seq+1, a.prev
	body, err := json.Marshal(act)
	if err != nil {
		return core.Errorf(core.KindInternal, "write the audit file", "%w", err)
	}
	sum := hashText(body)
	line := append(append([]byte(sum+" "), body...), '\n')
	if len(line) > maxAuditLine {
		return core.Errorf(core.KindInvalid, "write the audit file", "an act of %d bytes is too long", len(line))
	}
	if _, err = a.file.Write(line); err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		a.err = err
		return core.Errorf(core.KindUnavailable, "write the audit file", "%w", err)
	}
	a.seq, a.prev = act.Seq, sum
	return nil
}

// Close ends the file. Safe to call twice; acts after it are refused.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	a.err = errors.Join(a.err, os.ErrClosed)
	return err
}

func hashText(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
