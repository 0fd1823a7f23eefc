package api

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gnomon-scheduler/gnomon/core"
)

// NewWith is New with operations of a test's own, registered past register.
func NewWith(o Options, more func(huma.API)) (*API, error) { return build(o, more) }

// ThroughCore reads policies as a request does and gives what an answer says of them.
func ThroughCore(p Policies) (Policies, []core.Finding) {
	var findings []core.Finding
	read := p.policies("policies", &findings)
	return policiesOut(read), findings
}

// LineJSON gives a line as the logs have it, and as json.Marshal has it.
func LineJSON(l core.LoggedLine) (ours, theirs string) {
	want, err := json.Marshal(lineOut(l))
	if err != nil {
		panic(err)
	}
	return string(appendLine(nil, &l)), string(want)
}
