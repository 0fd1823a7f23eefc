package api

import "github.com/danielgtaylor/huma/v2"

// NewWith is New with operations of a test's own, registered past register.
func NewWith(o Options, more func(huma.API)) (*API, error) { return build(o, more) }
