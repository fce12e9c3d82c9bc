package openstack

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
)

// Dialect is how one of OpenStack's services words what all of them have.
type Dialect struct {
	name     string // of the service's type, as in OpenStack-API-Version
	idHeader string // a header for request ids of its own, or empty
	render   func(*Fault, *http.Request) (contentType string, body []byte)
}

// The services that Slipway speaks as.
var (
	Compute  = Dialect{name: "compute", idHeader: "X-Compute-Request-Id", render: computeFault}
	Identity = Dialect{name: "identity", render: identityFault}
	Image    = Dialect{name: "image", render: imageFault}
	Network  = Dialect{name: "network", render: networkFault}
	// Slipway is its own API, beside OpenStack's.
	Slipway = Dialect{name: "slipway", render: slipwayFault}
)

// String is the type of the service, as in the catalog.
func (d Dialect) String() string { return d.name }

const jsonType = "application/json"

// computeWords are Nova's names of faults; others are computeFault.
var computeWords = map[int]string{
	http.StatusBadRequest:            "badRequest",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "itemNotFound",
	http.StatusMethodNotAllowed:      "badMethod",
	http.StatusConflict:              "conflictingRequest",
	http.StatusRequestEntityTooLarge: "overLimit",
	http.StatusUnsupportedMediaType:  "badMediaType",
	http.StatusTooManyRequests:       "overLimit",
	http.StatusNotImplemented:        "notImplemented",
	http.StatusServiceUnavailable:    "serviceUnavailable",
}

func computeFault(f *Fault, _ *http.Request) (string, []byte) {
	word := f.Type
	if word == "" {
		word = computeWords[f.Code]
	}
	if word == "" {
		word = "computeFault"
	}
	body := struct {
		Code       int    `json:"code"`
		Message    string `json:"message"`
		RetryAfter string `json:"retryAfter,omitempty"`
	}{Code: f.Code, Message: f.Message}
	if f.RetryAfter > 0 {
		body.RetryAfter = strconv.Itoa(retrySeconds(f))
	}
	return jsonType, encode(map[string]any{word: body})
}

func identityFault(f *Fault, _ *http.Request) (string, []byte) {
	type body struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Title   string `json:"title"`
	}
	return jsonType, encode(map[string]body{"error": {f.Code, f.Message, http.StatusText(f.Code)}})
}

// imageFault is what Glance's WebOb gives: HTML, or JSON or text for who asks for
// that alone.
func imageFault(f *Fault, r *http.Request) (string, []byte) {
	status := fmt.Sprintf("%d %s", f.Code, http.StatusText(f.Code))
	message := html.EscapeString(f.Message)
	switch accept := r.Header.Get("Accept"); {
	case accept == "" || strings.Contains(accept, "*/*") || strings.Contains(accept, "text/html"):
		return "text/html; charset=UTF-8", fmt.Appendf(nil,
			"<html>\n <head>\n  <title>%s</title>\n </head>\n <body>\n  <h1>%s</h1>\n  %s<br /><br />\n\n\n\n </body>\n</html>",
			status, status, message)
	case strings.Contains(accept, jsonType):
		return jsonType, encode(map[string]string{
			"message": message + "<br /><br />\n\n\n", "code": status, "title": http.StatusText(f.Code),
		})
	}
	return "text/plain; charset=UTF-8", fmt.Appendf(nil, "%s\n\n%s\n\n\n ", status, f.Message)
}

func networkFault(f *Fault, _ *http.Request) (string, []byte) {
	kind := f.Type
	if kind == "" {
		kind = "HTTP" + strings.ReplaceAll(http.StatusText(f.Code), " ", "")
	}
	body := map[string]string{"type": kind, "message": f.Message, "detail": ""}
	return jsonType, encode(map[string]any{"NeutronError": body})
}

// slipwayWords are Slipway's own names of faults; others are internal.
var slipwayWords = map[int]string{
	http.StatusBadRequest:         "invalid",
	http.StatusUnauthorized:       "unauthorized",
	http.StatusForbidden:          "forbidden",
	http.StatusNotFound:           "not_found",
	http.StatusMethodNotAllowed:   "method_not_allowed",
	http.StatusRequestTimeout:     "timeout",
	http.StatusConflict:           "conflict",
	http.StatusTooManyRequests:    "over_limit",
	http.StatusNotImplemented:     "unsupported",
	http.StatusServiceUnavailable: "unavailable",
}

func slipwayFault(f *Fault, _ *http.Request) (string, []byte) {
	kind := slipwayWords[f.Code]
	if kind == "" {
		kind = "internal"
	}
	return jsonType, encode(map[string]any{"error": map[string]string{"kind": kind, "message": f.Message}})
}

// encode is for values that always encode.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
