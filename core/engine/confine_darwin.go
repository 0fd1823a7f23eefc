package engine

// confine does nothing: macOS has nothing like Landlock that a program may use.
func confine(Options, string) error { return nil }
