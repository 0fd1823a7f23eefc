package engine

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// exception is an error of ClickHouse: its number and its own words, starting with "Code: N. DB::Exception: ".
type exception struct {
	code int
	text string
}

func (e *exception) Error() string { return e.text }

var codePrefix = regexp.MustCompile(`^Code: (\d+)\. (?:DB::Exception: )?`)

// parseException takes the engine's words. libchdb wraps one exception in another up to three times; the innermost
// carries the meaning, so equal prefixes are folded into one.
func parseException(text string) *exception {
	text = strings.TrimSpace(text)
	text = strings.TrimPrefix(text, "Error: ")
	m := codePrefix.FindStringSubmatch(text)
	if m == nil {
		return &exception{code: codeUnknown, text: "Code: " + strconv.Itoa(codeUnknown) + ". DB::Exception: " + text}
	}
	for {
		rest := text[len(m[0]):]
		inner := codePrefix.FindStringSubmatch(rest)
		if inner == nil {
			break
		}
		text, m = rest, inner
	}
	code, err := strconv.Atoi(m[1])
	if err != nil {
		code = codeUnknown
	}
	return &exception{code: code, text: text}
}

// ClickHouse's error numbers that are used here (src/Common/ErrorCodes.cpp).
const (
	codeBadArguments        = 36
	codeNotImplemented      = 48
	codeReadonly            = 164
	codeQueryIsTooLarge     = 168
	codeTooManyQueries      = 202
	codeQueryWasCancelled   = 394
	codeUnknown             = 1002
	codeCannotParseInput    = 27
	codeUnsupportedMethod   = 1
	codeSessionNotSupported = 372
)

// status gives the HTTP status that ClickHouse answers with for the exception (src/Server/HTTP/exceptionCodeToHTTPStatus.cpp).
func (e *exception) status() int {
	switch e.code {
	case 27, 6, 38, 41, 53, 62, 63, 69, 70, 72, 117, 123, 130, 131, 190, 321, 349, 386, 26, 43, 44, 47, 42, 35, 457, 36, 16, 15, 20, 125, 128, 10, 8:
		return http.StatusBadRequest
	case 60, 46, 50, 56, 81, 115, 73, 83, 84, 65, 178:
		return http.StatusNotFound
	case 164, 291, 497:
		return http.StatusForbidden
	case codeQueryIsTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeNotImplemented:
		return http.StatusNotImplemented
	case 159:
		return http.StatusRequestTimeout
	case 202, 209, 76, 439:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
