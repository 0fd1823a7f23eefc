package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/gnomon-scheduler/gnomon/core"
	"github.com/gnomon-scheduler/gnomon/core/api"
)

// messages that JSON writes otherwise than they are, and some that it does not.
var messages = []string{
	"", "plain", "邮件队列发送任务 ✓ 😀", "a \"quoted\" one", `c:\windows`, "two\nlines\tand \x00 \x1f \x7f", "<script>&", "\u2028 and \u2029", "\ufffd is a character",
	"\xff\xfe is none", "cut \xe9\x82",
}

func TestALineIsWrittenAsJSONWritesIt(t *testing.T) {
	origin := &core.Origin{RunID: "r", Attempt: 3}
	at := time.Date(2026, 11, 29, 18, 4, 5, 123456789, time.FixedZone("", 8*3600))
	for i, message := range messages {
		for _, l := range []core.LoggedLine{
			{LogLine: core.LogLine{Message: message}},
			{Origin: origin, LogLine: core.LogLine{At: at, Level: core.LevelWarn, Stream: core.StreamStderr, Seq: 1<<64 - 1, Message: message}},
			{Origin: origin, LogLine: core.LogLine{At: at.Add(time.Duration(i) * time.Second), Level: core.LevelInfo, Seq: 7, Message: message,
				Attrs: []core.Attr{{Key: "z", Value: message}, {Key: message, Value: "first"}, {Key: message, Value: "last"}, {Key: "a"}}}},
			{LogLine: core.LogLine{At: at, Message: "sorted", Attrs: []core.Attr{{Key: "a", Value: message}, {Key: "b"}, {Key: "c" + message, Value: "1"}}}},
		} {
			if ours, theirs := api.LineJSON(l); ours != theirs {
				t.Errorf("%q is written\n%s, want\n%s", message, ours, theirs)
			}
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, message := range messages {
		f.Add(message)
	}
	f.Fuzz(func(t *testing.T, message string) {
		ours, theirs := api.LineJSON(core.LoggedLine{LogLine: core.LogLine{Message: message,
			Attrs: []core.Attr{{Key: message, Value: message}, {Key: message + "~", Value: "v"}}}})
		if ours != theirs || !json.Valid([]byte(ours)) {
			t.Errorf("%q is written\n%s, want\n%s", message, ours, theirs)
		}
	})
}
