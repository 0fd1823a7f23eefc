package core

// Text is what a person reads, in both languages of the console.
type Text struct {
	Zh string `json:"zh" yaml:"zh" doc:"Chinese text"`
	En string `json:"en" yaml:"en" doc:"English text"`
}

// In gives the text in lang ("zh" or "en"), or the other language where that one is empty.
func (t Text) In(lang string) string {
	if lang == "zh" && t.Zh != "" || t.En == "" {
		return t.Zh
	}
	return t.En
}

// Secret is a value that must not be shown. Every way of printing it gives [redacted]; Reveal gives the value.
type Secret struct{ value string }

const redacted = "[redacted]"

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{value} }

// Reveal gives the value; the caller must not log, store or return it.
func (s Secret) Reveal() string { return s.value }

// String gives [redacted].
func (s Secret) String() string { return redacted }

// GoString gives [redacted].
func (s Secret) GoString() string { return redacted }

// MarshalText gives [redacted], so that JSON, YAML and slog do too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
