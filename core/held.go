package core

import "time"

// Held is something that all namespaces share, a calendar, a year of holidays, a pool or a downstream, with how it is kept.
type Held[T any] struct {
	Value     T
	Version   int64 // from 1, rises with every change; 0: every installation has it, and nobody changes it
	UpdatedAt time.Time
	UpdatedBy string
}

// AnyVersion stands for whatever version there is, or none, where the version that was seen is asked for.
const AnyVersion = -1
