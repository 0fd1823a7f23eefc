package luavm

// Roundtrip decodes a JSON text to a Lua value and encodes that again.
func Roundtrip(text []byte) ([]byte, error) {
	v, err := fromJSON(text, nil)
	if err != nil {
		return nil, err
	}
	return toJSON(v, nil)
}

// Compile compiles a source and says what is wrong with it.
func Compile(source string) error {
	_, err := compile(source, "Ns/Type.lua")
	return err
}

// Match finds the first match of a Lua pattern: its start and end, and why it could not be searched. It gives up after
// limit steps.
func Match(text, pattern string, limit int) (start, end int, err error) {
	defer func() {
		if r := recover(); r != nil {
			pe, ok := r.(patternError)
			if !ok {
				panic(r)
			}
			err = pe
		}
	}()
	m := &matcher{src: text, pat: pattern}
	m.charge = func(int) {
		if m.steps > limit {
			panic(patternError{errPattern})
		}
	}
	start, end = m.next(0)
	return start, end, nil
}

// Numbered is numbered.
var Numbered = numbered

// Shadow is how many bytes a process maps for each byte of its heap.
const Shadow = shadow
