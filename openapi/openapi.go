// Package openapi embeds the reviewed copy of the REST API's OpenAPI 3.1 document. The types in core/api are the truth;
// `gnomon openapi` prints the document and a test there compares it with this copy.
package openapi

import _ "embed"

// Document is openapi.yaml.
//
//go:embed openapi.yaml
var Document []byte
