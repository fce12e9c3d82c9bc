package openstack

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
)

// RequestIDHeader names a request, in answers, and between services where one's
// request is due to another's.
const RequestIDHeader = "X-Openstack-Request-Id"

// Exchange is what becomes known of one request while it is answered, for whoever
// logs and counts it.
type Exchange struct {
	RequestID string  // req-UUID
	GlobalID  string  // the id that the client gave, if it gave one
	Route     string  // the pattern that matched: "GET /v2.1/servers/{id}"
	Caller    *Caller // nil where nobody was authenticated
	// Base is the URL of the service's root as clients reach it, without a final
	// slash: links begin with it.
	Base string
}

type exchangeKey struct{}

// WithExchange returns a context that carries x.
func WithExchange(ctx context.Context, x *Exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// ExchangeOf is the request that is being answered; nil outside of one.
func ExchangeOf(ctx context.Context) *Exchange {
	x, _ := ctx.Value(exchangeKey{}).(*Exchange)
	return x
}

// RequestIDOf is the id of the request that is being answered, or empty.
func RequestIDOf(ctx context.Context) string {
	if x := ExchangeOf(ctx); x != nil {
		return x.RequestID
	}
	return ""
}

// BaseOf is the URL of the service's root, for links: "http://host:8774/compute".
// Outside of a service it is made of the request's own host.
func BaseOf(r *http.Request) string {
	if x := ExchangeOf(r.Context()); x != nil && x.Base != "" {
		return x.Base
	}
	return HostURL(r)
}

// HostURL is the URL, without a path, that the client has used.
func HostURL(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// NewRequestID makes an id such as req-0f1e....
func NewRequestID() string { return "req-" + newUUID() }

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Begin gives a request its Exchange and the answer its id. What is called with
// the result shares it.
func Begin(w http.ResponseWriter, r *http.Request) (*Exchange, *http.Request) {
	x := &Exchange{RequestID: NewRequestID()}
	if id := r.Header.Get(RequestIDHeader); validRequestID(id) {
		x.GlobalID = id
	}
	w.Header().Set(RequestIDHeader, x.RequestID)
	return x, r.WithContext(WithExchange(r.Context(), x))
}

// validRequestID keeps what a client says out of the log unless it is an id.
func validRequestID(id string) bool {
	rest, ok := strings.CutPrefix(id, "req-")
	return ok && len(rest) == 36 && strings.Trim(rest, "0123456789abcdefABCDEF-") == ""
}
