package openstack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// MaxBody bounds a request body of JSON, in bytes: room for user data of 64 KiB in
// base64 and whatever stands beside it.
const MaxBody = 1 << 20

// ReadJSON decodes a request's body into v, ignoring members that v has not. The
// error is a Fault: 400, 413 beyond MaxBody, 415 for what is not JSON.
func ReadJSON(r *http.Request, v any) error { return readJSON(r, v, false) }

// ReadStrictJSON is ReadJSON, but refuses members that v has not, as Nova's schemas
// do.
func ReadStrictJSON(r *http.Request, v any) error { return readJSON(r, v, true) }

func readJSON(r *http.Request, v any, strict bool) error {
	if t := r.Header.Get("Content-Type"); t != "" {
		media, _, err := mime.ParseMediaType(t)
		if err != nil || !strings.Contains(media, "json") {
			return Faultf(http.StatusUnsupportedMediaType, "Unsupported Content-Type %q: send application/json.", t)
		}
	}
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBody))
	if err != nil {
		return bodyFault(err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return BadRequest("Malformed request body: it is empty.")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return bodyFault(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return BadRequest("Malformed request body: there is more after the JSON value.")
	}
	return nil
}

// bodyFault words what is wrong with a body.
func bodyFault(err error) error {
	var (
		tooLarge *http.MaxBytesError
		kind     *json.UnmarshalTypeError
		syntax   *json.SyntaxError
		fault    *Fault
	)
	switch {
	case errors.As(err, &fault): // from a type's own UnmarshalJSON
		return fault
	case errors.As(err, &tooLarge):
		return Faultf(http.StatusRequestEntityTooLarge, "Request is too large: a body may have %d bytes.", tooLarge.Limit)
	case errors.As(err, &kind):
		field := kind.Field
		if field == "" {
			field = "(the body)"
		}
		return BadRequest("Invalid input for field/attribute %s. A value of type %s is not of type '%s'.", field, kind.Value, jsonTypeOf(kind.Type.Kind().String()))
	case errors.As(err, &syntax):
		return BadRequest("Malformed request body: %v, at byte %d.", err, syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return BadRequest("Malformed request body: it ends too early.")
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return BadRequest("Invalid input: additional properties are not allowed ('%s' was unexpected).", strings.Trim(name, `"`))
	}
	return BadRequest("Malformed request body: %v.", err)
}

// jsonTypeOf is JSON Schema's word for a kind of Go.
func jsonTypeOf(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "integer"
	case strings.HasPrefix(kind, "float"):
		return "number"
	case kind == "bool":
		return "boolean"
	case kind == "slice", kind == "array":
		return "array"
	case kind == "struct", kind == "map":
		return "object"
	}
	return kind
}

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // who does not read it has gone
	return nil
}
