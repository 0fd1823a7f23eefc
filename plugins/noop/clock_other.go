//go:build !linux

package main

import "time"

var processStart = time.Now()

// monotonic counts from the start of this process where the machine's clock is not at hand.
func monotonic() (int64, error) { return int64(time.Since(processStart)), nil }
