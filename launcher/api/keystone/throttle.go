package keystone

import (
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// How many logins may fail in a row, from one address for one user and for all
// users, before they have to wait, and how fast the debt is forgiven.
const (
	failuresOfUser    = 10
	failuresOfAddress = 50
	forgivenEvery     = 3 * time.Second
	maxThrottled      = 10_000 // addresses and users that are remembered
)

// throttle slows down who guesses passwords. Only failures count.
type throttle struct {
	now  func() time.Time
	mu   sync.Mutex
	debt map[string]*rate.Limiter
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, debt: map[string]*rate.Limiter{}}
}

// who are the keys of a request that logs a user in, each with its limit.
func who(r *http.Request, user string) map[string]int {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	return map[string]int{address + " " + user: failuresOfUser, address: failuresOfAddress}
}

// check refuses a login that follows too many failed ones.
func (t *throttle) check(r *http.Request, user string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for key := range who(r, user) {
		if l := t.debt[key]; l != nil && l.TokensAt(now) < 1 {
			return &openstack.Fault{
				Code: http.StatusTooManyRequests, RetryAfter: forgivenEvery,
				Message: "Too many failed logins: try again later.",
			}
		}
	}
	return nil
}

// failed notes a failed login.
func (t *throttle) failed(r *http.Request, user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.debt) > maxThrottled {
		for key, l := range t.debt {
			if l.TokensAt(now) >= float64(l.Burst()) {
				delete(t.debt, key)
			}
		}
	}
	for key, limit := range who(r, user) {
		l := t.debt[key]
		if l == nil {
			if len(t.debt) > maxThrottled {
				continue
			}
			l = rate.NewLimiter(rate.Every(forgivenEvery), limit)
			t.debt[key] = l
		}
		l.AllowN(now, 1)
	}
}
