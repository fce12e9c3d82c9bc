package openstack

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Microversion is the N of Nova's version 2.N.
type Microversion int

// String gives the whole version.
func (v Microversion) String() string { return "2." + strconv.Itoa(int(v)) }

// Microversions is the range that a service speaks.
type Microversions struct{ Min, Max Microversion }

const (
	versionHeader = "OpenStack-API-Version"
	novaHeader    = "X-OpenStack-Nova-API-Version"
)

var versionForm = regexp.MustCompile(`^([1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})$`)

// Negotiate is the version that a request asks for: in OpenStack-API-Version, else
// in X-OpenStack-Nova-API-Version, else the lowest. The error is a Fault: 400 for
// what is no version, 406 for one outside the range.
func (m Microversions) Negotiate(h http.Header) (Microversion, error) {
	asked := h.Get(novaHeader)
	for _, value := range h.Values(versionHeader) {
		for part := range strings.SplitSeq(value, ",") {
			if words := strings.Fields(part); len(words) == 2 && strings.EqualFold(words[0], Compute.name) {
				asked = words[1]
			}
		}
	}
	switch asked = strings.TrimSpace(asked); asked {
	case "":
		return m.Min, nil
	case "latest":
		return m.Max, nil
	}
	parts := versionForm.FindStringSubmatch(asked)
	if parts == nil {
		return 0, BadRequest("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", asked)
	}
	minor, err := strconv.Atoi(parts[2])
	if v := Microversion(minor); err == nil && parts[1] == "2" && v >= m.Min && v <= m.Max {
		return v, nil
	}
	return 0, Faultf(http.StatusNotAcceptable, "Version %s is not supported by the API. Minimum is %s and maximum is %s.", asked, m.Min, m.Max)
}

// WithoutMicroversion takes what asks for a version out of a request's headers.
func WithoutMicroversion(h http.Header) {
	h.Del(versionHeader)
	h.Del(novaHeader)
}

// Middleware negotiates before next is called, which finds the version by
// MicroversionOf, and says in the answer which one it was.
func (m Microversions) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := m.Negotiate(r.Header)
		h := w.Header()
		h.Add("Vary", versionHeader)
		h.Add("Vary", novaHeader)
		if err != nil {
			WriteFault(w, r, Compute, err)
			return
		}
		h.Set(versionHeader, fmt.Sprintf("%s %s", Compute, v))
		h.Set(novaHeader, v.String())
		next.ServeHTTP(w, r.WithContext(WithMicroversion(r.Context(), v)))
	})
}

type microversionKey struct{}

// WithMicroversion returns a context that carries the version to answer in.
func WithMicroversion(ctx context.Context, v Microversion) context.Context {
	return context.WithValue(ctx, microversionKey{}, v)
}

// MicroversionOf is the version to answer in, 2.1 where none was negotiated.
func MicroversionOf(ctx context.Context) Microversion {
	if v, ok := ctx.Value(microversionKey{}).(Microversion); ok {
		return v
	}
	return 1
}
