package recorder

import (
	"strconv"
	"unicode/utf8"

	"github.com/gnomon-scheduler/gnomon/core"
)

// Attributes the recorder adds to a line it had to change, so that no change goes unsaid.
const (
	AttrCutBytes    = "gnomon.cut_bytes"    // bytes of the message that were cut off its end
	AttrBinaryBytes = "gnomon.binary_bytes" // bytes of the message that were not UTF-8 and are written as \xNN
	AttrCutAttrs    = "gnomon.cut_attrs"    // attributes left out because there were too many or they were too long
	AttrDropped     = "gnomon.dropped"      // on a gap marker: lines not recorded because the spool was full
)

const (
	maxAttrs     = 128      // attributes of one line
	maxAttrBytes = 64 << 10 // keys and values of one line together
	maxText      = 64 << 10 // any other free text: an attempt's message, a name
)

const hexDigits = "0123456789abcdef"

// clean gives s as UTF-8 of at most limit bytes. Bytes that are not UTF-8 become \xNN, so that what they were can
// still be read. It looks at no more than limit bytes of s, however long s is.
func clean(s string, limit int) (out string, cut, binaryBytes int) {
	if len(s) <= limit && utf8.ValidString(s) {
		return s, 0, 0
	}
	whole := len(s)
	if len(s) > limit {
		n := limit
		for back := 0; back < utf8.UTFMax && n > 0 && !utf8.RuneStart(s[n]); back++ {
			n--
		}
		s = s[:n]
	}
	if utf8.ValidString(s) {
		return s, whole - len(s), 0
	}
	b := make([]byte, 0, min(limit, 2*len(s)))
	i := 0
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			if len(b)+4 > limit {
				break
			}
			b = append(b, '\\', 'x', hexDigits[s[i]>>4], hexDigits[s[i]&15])
			binaryBytes++
		} else {
			if len(b)+size > limit {
				break
			}
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return string(b), whole - i, binaryBytes
}

// cleanLine makes a line fit to be stored; the common case changes nothing and allocates nothing.
func cleanLine(l *core.LogLine, limit int) {
	message, cut, binaryBytes := clean(l.Message, limit)
	l.Message = message
	cutAttrs := 0
	if len(l.Attrs) > 0 && !attrsFit(l.Attrs) {
		l.Attrs, cutAttrs = cleanAttrs(l.Attrs)
	}
	if cut == 0 && binaryBytes == 0 && cutAttrs == 0 {
		return
	}
	attrs := append(make([]core.Attr, 0, len(l.Attrs)+3), l.Attrs...)
	for _, note := range [...]struct {
		key string
		n   int
	}{{AttrCutBytes, cut}, {AttrBinaryBytes, binaryBytes}, {AttrCutAttrs, cutAttrs}} {
		if note.n > 0 {
			attrs = append(attrs, core.Attr{Key: note.key, Value: strconv.Itoa(note.n)})
		}
	}
	l.Attrs = attrs
}

func attrsFit(attrs []core.Attr) bool {
	if len(attrs) > maxAttrs {
		return false
	}
	size := 0
	for i := range attrs {
		size += len(attrs[i].Key) + len(attrs[i].Value)
		if size > maxAttrBytes || !utf8.ValidString(attrs[i].Key) || !utf8.ValidString(attrs[i].Value) {
			return false
		}
	}
	return true
}

// cleanAttrs keeps attributes in order while they fit and gives the number it changed or left out.
func cleanAttrs(attrs []core.Attr) (kept []core.Attr, changed int) {
	room := maxAttrBytes
	for i := range attrs {
		if i == maxAttrs || room == 0 {
			return kept, changed + len(attrs) - i
		}
		key, cutKey, _ := clean(attrs[i].Key, room)
		room -= len(key)
		value, cutValue, _ := clean(attrs[i].Value, room)
		room -= len(value)
		if cutKey+cutValue > 0 {
			changed++
		}
		kept = append(kept, core.Attr{Key: key, Value: value})
	}
	return kept, changed
}

func cleanText(s string) string {
	out, _, _ := clean(s, maxText)
	return out
}

// cleanOrigin makes the names of an origin fit to be stored.
func cleanOrigin(o core.Origin) core.Origin {
	o.RunID, o.TaskID, o.Namespace = cleanText(o.RunID), cleanText(o.TaskID), cleanText(o.Namespace)
	o.TaskName, o.TaskType = cleanText(o.TaskName), cleanText(o.TaskType)
	return o
}
