// Package wire is the part of the SDK that speaks the contract: it batches what an attempt says into messages, measures
// what it uses, and serves a plugin's process. Task authors see package sdk only.
package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	pluginv1 "github.com/gnomon-scheduler/gnomon/sdk/proto/gnomon/plugin/v1"
	"github.com/gnomon-scheduler/gnomon/sdk/protocol"
)

// When a batch of lines is sent: at so many lines, at so many bytes, or so long after its first line.
const (
	batchLines = 256
	batchBytes = 64 << 10
	batchWait  = 50 * time.Millisecond
)

// Limits of one line's attributes.
const (
	maxAttrs      = 128
	maxAttrBytes  = 16 << 10
	maxAttrsBytes = 256 << 10
)

// lineOverhead is what a line weighs beside its text, so that empty lines fill a batch too.
const lineOverhead = 32

var errFinished = errors.New("the attempt has ended")

// Stream sends what one attempt says. Its methods may be called at once; lines keep the order in which their calls
// began. Line waits while the receiver does not take more: that wait is all that bounds a flood.
//
// Lock order: sending before mu.
type Stream struct {
	send  func(*pluginv1.RunResponse) error
	level pluginv1.Level
	masks []string

	sending sync.Mutex // held while a message is handed to gRPC
	ended   bool       // guarded by sending: nothing is sent any more
	failed  error      // guarded by sending: what the first failing send said

	mu       sync.Mutex
	lines    []*pluginv1.LogLine
	bytes    int
	progress *pluginv1.Progress
	timer    *time.Timer
	armed    bool
}

// Init prepares a stream: send hands a message to gRPC, lines below level are not sent, and each of masks is replaced by
// [redacted] wherever a line or message contains it.
func (s *Stream) Init(send func(*pluginv1.RunResponse) error, level pluginv1.Level, masks []string) {
	s.send, s.level, s.masks = send, level, masks
}

// Wants reports whether lines of a level are sent.
func (s *Stream) Wants(level pluginv1.Level) bool { return level >= s.level }

// Line says a line. cut is how many bytes of it the caller has already left out.
func (s *Stream) Line(at time.Time, level pluginv1.Level, stream pluginv1.Stream, message string, attrs []*pluginv1.Attr, cut int64) {
	if !s.Wants(level) {
		return
	}
	if cut > 0 {
		whole := trimPartialRune(message)
		cut += int64(len(message) - len(whole))
		message = whole
	}
	message, lost := cutText(s.Mask(message), protocol.MaxLineBytes)
	cut += lost
	attrs, weight, lost := s.cutAttrs(attrs)
	cut += lost
	if cut > 0 {
		attrs = append(attrs, &pluginv1.Attr{Key: protocol.AttrCutBytes, Value: strconv.FormatInt(cut, 10)})
	}
	line := &pluginv1.LogLine{At: timestamppb.New(at), Level: level, Message: message, Attrs: attrs, Stream: stream}

	s.mu.Lock()
	for s.full() {
		s.mu.Unlock()
		s.flush()
		s.mu.Lock()
	}
	s.lines = append(s.lines, line)
	s.bytes += len(message) + weight + lineOverhead
	full := s.full()
	if !full {
		s.arm()
	}
	s.mu.Unlock()
	if full {
		s.flush()
	}
}

// Progress says how far the attempt is. Only the newest of each 50 ms is sent.
func (s *Stream) Progress(done, total int64, note string) {
	note, _ = cutText(s.Mask(note), protocol.MaxFailureBytes)
	s.mu.Lock()
	s.progress = &pluginv1.Progress{Done: done, Total: total, Note: note}
	s.arm()
	s.mu.Unlock()
}

// Checkpoint sends a checkpoint, after all that was said before it.
func (s *Stream) Checkpoint(state []byte) error {
	if len(state) > protocol.MaxCheckpointBytes {
		return fmt.Errorf("checkpoint of %d bytes is over the limit of %d", len(state), protocol.MaxCheckpointBytes)
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	s.flushSending()
	return s.sendOne(&pluginv1.RunResponse{Event: &pluginv1.RunResponse_Checkpoint{Checkpoint: state}})
}

// Finish sends what is still to be said and then the outcome. Nothing can be said afterwards.
func (s *Stream) Finish(outcome *pluginv1.Outcome) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.flushSending()
	err := s.sendOne(&pluginv1.RunResponse{Event: &pluginv1.RunResponse_Outcome{Outcome: outcome}})
	s.ended = true
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	return err
}

// Mask replaces what must not be shown.
func (s *Stream) Mask(text string) string {
	for _, secret := range s.masks {
		if strings.Contains(text, secret) {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

func (s *Stream) full() bool { return len(s.lines) >= batchLines || s.bytes >= batchBytes }

// arm makes sure that a flush comes within batchWait. The timer's goroutine ends with that flush.
func (s *Stream) arm() {
	if s.armed {
		return
	}
	s.armed = true
	if s.timer == nil {
		s.timer = time.AfterFunc(batchWait, s.flush)
		return
	}
	s.timer.Reset(batchWait)
}

func (s *Stream) flush() {
	s.sending.Lock()
	s.flushSending()
	s.sending.Unlock()
}

// flushSending sends what is pending; sending is held. What can no longer be sent is dropped: nobody listens.
func (s *Stream) flushSending() {
	s.mu.Lock()
	lines, progress := s.lines, s.progress
	s.lines, s.bytes, s.progress = nil, 0, nil
	if s.armed {
		s.armed = false
		s.timer.Stop()
	}
	s.mu.Unlock()
	if len(lines) > 0 {
		_ = s.sendOne(&pluginv1.RunResponse{Event: &pluginv1.RunResponse_Logs{Logs: &pluginv1.LogBatch{Lines: lines}}})
	}
	if progress != nil {
		_ = s.sendOne(&pluginv1.RunResponse{Event: &pluginv1.RunResponse_Progress{Progress: progress}})
	}
}

func (s *Stream) sendOne(message *pluginv1.RunResponse) error {
	if s.ended {
		return errFinished
	}
	if s.failed == nil {
		s.failed = s.send(message)
	}
	return s.failed
}

// CutMessage makes text one valid line of at most limit bytes.
func CutMessage(text string, limit int) string {
	text, _ = cutText(text, limit)
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// cutText makes text valid UTF-8 of at most limit bytes and says how many bytes that lost.
func cutText(text string, limit int) (string, int64) {
	var lost int64
	if len(text) > limit {
		size := len(text)
		text = trimPartialRune(text[:limit])
		lost = int64(size - len(text))
	}
	if utf8.ValidString(text) {
		return text, lost
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > limit { // replacing made it longer
		end := limit
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		lost += int64(len(text) - end)
		text = text[:end]
	}
	return text, lost
}

// trimPartialRune leaves out a rune that a cut has split, which would become a replacement character.
func trimPartialRune(text string) string {
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if !utf8.RuneStart(text[len(text)-i]) {
			continue
		}
		if !utf8.FullRuneInString(text[len(text)-i:]) {
			return text[:len(text)-i]
		}
		break
	}
	return text
}

func (s *Stream) cutAttrs(attrs []*pluginv1.Attr) (kept []*pluginv1.Attr, weight int, lost int64) {
	for i, a := range attrs {
		if i >= maxAttrs || weight >= maxAttrsBytes {
			for _, left := range attrs[i:] {
				lost += int64(len(left.Key) + len(left.Value))
			}
			return attrs[:i], weight, lost
		}
		var cut int64
		a.Key, cut = cutText(a.Key, 256)
		lost += cut
		a.Value, cut = cutText(s.Mask(a.Value), maxAttrBytes)
		lost += cut
		weight += len(a.Key) + len(a.Value) + lineOverhead/2
	}
	return attrs, weight, lost
}
