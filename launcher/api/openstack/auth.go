package openstack

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// TokenHeader carries the caller's token.
const TokenHeader = "X-Auth-Token"

// ErrToken says that a token is not valid: unknown, expired or revoked.
var ErrToken = errors.New("token is not valid")

// An Authenticator knows whom a token stands for.
type Authenticator interface {
	// Authenticate returns what a token says, or an error that matches ErrToken.
	Authenticate(ctx context.Context, token string) (*Caller, error)
}

// Unauthorized is the fault of a request without a valid token, as Keystone words it.
func Unauthorized() *Fault {
	return Faultf(http.StatusUnauthorized, "The request you have made requires authentication.")
}

// Authentication lets requests with a valid token through to next, which finds
// whom it stands for by CallerOf.
type Authentication struct {
	Tokens Authenticator
	// IdentityURL is where a request's client gets a token.
	IdentityURL func(*http.Request) string
	// Public tells which requests need no token; nil: none. A valid one is used all
	// the same.
	Public func(*http.Request) bool
	// Service is the type of the service, which access rules name.
	Service string
	Dialect Dialect
	Log     *slog.Logger // nil discards
}

// Middleware puts the check before next.
func (a Authentication) Middleware(next http.Handler) http.Handler {
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := a.caller(r)
		switch {
		case err == nil:
			caller.RequestID = RequestIDOf(r.Context())
			r = r.WithContext(WithCaller(r.Context(), caller))
		case errors.Is(err, ErrToken) && a.Public != nil && a.Public(r):
		case errors.Is(err, ErrToken):
			a.refuse(w, r)
			return
		default:
			a.Log.Error("token not checked", "request_id", RequestIDOf(r.Context()), "err", err)
			WriteFault(w, r, a.Dialect, &Fault{Code: http.StatusServiceUnavailable, Message: "The identity service is unavailable.", Err: err})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a Authentication) caller(r *http.Request) (*Caller, error) {
	token := r.Header.Get(TokenHeader)
	if token == "" {
		return nil, ErrToken
	}
	caller, err := a.Tokens.Authenticate(r.Context(), token)
	if err == nil && caller.Allows != nil && !caller.Allows(a.Service, r.Method, r.URL.Path) {
		return nil, ErrToken // as keystonemiddleware says it
	}
	return caller, err
}

// refuse answers as keystonemiddleware does, whatever the service.
func (a Authentication) refuse(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", `Keystone uri="`+a.IdentityURL(r)+`"`)
	WriteFault(w, r, Identity, Unauthorized())
}
