// Package openapi embeds the reviewed copies of the REST API's OpenAPI 3.1 document and of the JSON Schema of definition files. The
// types in core/api are the truth; `gnomon openapi` and `gnomon schema` print the two and a test there compares them with these copies.
package openapi

import _ "embed"

// Document is openapi.yaml.
//
//go:embed openapi.yaml
var Document []byte

// DefinitionSchema is definitions.schema.json.
//
//go:embed definitions.schema.json
var DefinitionSchema []byte
