package identity

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/slipway-vm/slipway/images/content"
)

// KeysConfig says where and for how long keys are kept.
type KeysConfig struct {
	Dir string // made where it is not there; others cannot read it
	// Rotate is the age at which a key is followed by a new one, a day by default.
	Rotate time.Duration
	// Keep is how long a key opens what it has sealed after that: longer than
	// tokens live. A day by default.
	Keep time.Duration
	Now  func() time.Time // time.Now by default
}

// Keys seal tokens. The newest seals, all open. A key is a file named by its time
// of birth, in nanoseconds.
type Keys struct {
	cfg  KeysConfig
	mu   sync.Mutex
	keys []key // oldest first
}

type key struct {
	born time.Time
	aead cipher.AEAD
}

// sealedVersion is the first byte of what is sealed.
const sealedVersion = 1

// OpenKeys reads the keys of a directory, and makes the first one.
func OpenKeys(cfg KeysConfig) (*Keys, error) {
	if cfg.Rotate == 0 {
		cfg.Rotate = 24 * time.Hour
	}
	if cfg.Keep == 0 {
		cfg.Keep = 24 * time.Hour
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	k := &Keys{cfg: cfg}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of keys: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(cfg.Dir) // sorted by name, hence by age
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(cfg.Dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") { // what a crash left half-written
			if err := os.Remove(path); err != nil {
				return nil, err
			}
			continue
		}
		one, err := readKey(path)
		if err != nil {
			return nil, fmt.Errorf("read key %s: %w", path, err)
		}
		k.keys = append(k.keys, one)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k, k.rotate()
}

func readKey(path string) (key, error) {
	nanoseconds, err := strconv.ParseInt(filepath.Base(path), 10, 64)
	if err != nil {
		return key{}, err
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		return key{}, err
	}
	aead, err := chacha20poly1305.NewX(secret)
	return key{time.Unix(0, nanoseconds), aead}, err
}

// rotate makes a new key where the newest is old, and removes those that nothing
// needs.
func (k *Keys) rotate() error {
	now := k.cfg.Now()
	if n := len(k.keys); n == 0 || now.Sub(k.keys[n-1].born) >= k.cfg.Rotate {
		one, err := k.add(now)
		if err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
		k.keys = append(k.keys, one)
	}
	// A key has been out of use since the next one was born.
	for len(k.keys) > 1 && now.Sub(k.keys[1].born) >= k.cfg.Keep {
		err := os.Remove(k.path(k.keys[0].born))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove an old key: %w", err)
		}
		k.keys = slices.Delete(k.keys, 0, 1)
	}
	return nil
}

func (k *Keys) path(born time.Time) string {
	return filepath.Join(k.cfg.Dir, fmt.Sprintf("%019d", born.UnixNano()))
}

func (k *Keys) add(now time.Time) (key, error) {
	secret := make([]byte, chacha20poly1305.KeySize)
	_, _ = rand.Read(secret) // it never fails
	f, err := os.CreateTemp(k.cfg.Dir, ".key-")
	if err != nil {
		return key{}, err
	}
	if _, err = f.Write(secret); err == nil {
		err = content.Commit(f, k.path(now))
	}
	if err != nil {
		content.Discard(f)
		return key{}, err
	}
	if err := f.Close(); err != nil {
		return key{}, err
	}
	aead, err := chacha20poly1305.NewX(secret)
	return key{now, aead}, err
}

// seal makes a text that only these keys open, and that nobody else can make.
func (k *Keys) seal(plain []byte) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.rotate(); err != nil {
		return "", err
	}
	aead := k.keys[len(k.keys)-1].aead
	head := make([]byte, 1+aead.NonceSize(), 1+aead.NonceSize()+len(plain)+aead.Overhead())
	head[0] = sealedVersion
	_, _ = rand.Read(head[1:])
	return base64.RawURLEncoding.EncodeToString(aead.Seal(head, head[1:], plain, nil)), nil
}

// open returns what was sealed, or ErrUnauthorized.
func (k *Keys) open(text string) ([]byte, error) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	const head = 1 + chacha20poly1305.NonceSizeX
	if err != nil || len(sealed) < head || sealed[0] != sealedVersion {
		return nil, ErrUnauthorized
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range slices.Backward(k.keys) {
		if plain, err := key.aead.Open(nil, sealed[1:head], sealed[head:], nil); err == nil {
			return plain, nil
		}
	}
	return nil, ErrUnauthorized
}
