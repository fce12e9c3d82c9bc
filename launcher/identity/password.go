package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"runtime"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// hasher makes and checks the hashes of secrets, no more at once than there are
// processors: the others wait.
type hasher struct {
	cost  int
	slots chan struct{}
	none  func() string // the hash of nobody's secret
}

func newHasher(cost int) hasher {
	if cost == 0 {
		cost = bcrypt.DefaultCost
	}
	h := hasher{cost: cost, slots: make(chan struct{}, runtime.NumCPU())}
	h.none = sync.OnceValue(func() string {
		hash, _ := bcrypt.GenerateFromPassword([]byte("nobody"), cost)
		return string(hash)
	})
	return h
}

// condensed is what bcrypt is given, which takes no more than 72 bytes.
func condensed(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawStdEncoding.AppendEncode(nil, sum[:])
}

func (h hasher) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h hasher) hash(ctx context.Context, secret string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	hash, err := bcrypt.GenerateFromPassword(condensed(secret), h.cost)
	return string(hash), err
}

// check returns ErrUnauthorized where secret is not what was hashed. Without a hash
// it takes as long, so that the time does not tell who there is.
func (h hasher) check(ctx context.Context, hash, secret string) error {
	leave, err := h.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	known := hash != ""
	if !known {
		hash = h.none()
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), condensed(secret)) != nil || !known {
		return ErrUnauthorized
	}
	return nil
}

// newSecret makes a secret of n random bytes.
func newSecret(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
