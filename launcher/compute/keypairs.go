package compute

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/slipway-vm/slipway/launcher"
)

// Types of keys.
const (
	KeySSH         = "ssh"
	KeyCertificate = "x509" // for Windows
)

// Keypair is a user's public key under a name.
type Keypair struct {
	Type        string    `json:"type,omitempty"` // KeySSH where it is empty
	Number      int       `json:"number"`         // of all keys, in the order of creation
	Name        string    `json:"name"`
	UserID      string    `json:"user_id"`
	PublicKey   string    `json:"public_key"` // a line as in authorized_keys, or a certificate in PEM
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
}

// Keypairs are the keys of all users.
type Keypairs struct {
	table  *table[Keypair]
	quotas *Quotas
	now    func() time.Time
}

func openKeypairs(ctx context.Context, cfg Config, q *Quotas) (*Keypairs, error) {
	t, err := openTable[Keypair](ctx, cfg.Store, "keypair")
	return &Keypairs{table: t, quotas: q, now: cfg.Now}, err
}

func keyOf(user, name string) string { return user + "/" + name }

// All returns a user's keys by name.
func (k *Keypairs) All(user string) []Keypair {
	list := k.table.all(func(p Keypair) bool { return p.UserID == user })
	slices.SortFunc(list, func(a, b Keypair) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Find returns a user's key.
func (k *Keypairs) Find(user, name string) (Keypair, error) {
	p, ok := k.table.get(keyOf(user, name))
	if !ok {
		return Keypair{}, noKeypair(user, name)
	}
	return p, nil
}

func noKeypair(user, name string) error {
	return launcher.Errorf(launcher.ErrNotFound, "Keypair %s not found for user %s", name, user)
}

// Import adds a public key of a type.
func (k *Keypairs) Import(ctx context.Context, project, user, name, typ, public string) (Keypair, error) {
	read := fingerprint
	if typ == KeyCertificate {
		read = certificatePrint
	}
	digits, err := read(public)
	if err != nil {
		return Keypair{}, err
	}
	p := Keypair{Type: typ, Name: name, UserID: user, PublicKey: public, Fingerprint: digits, Created: k.now()}
	return k.table.change(ctx, keyOf(user, name), func(_ Keypair, exists bool) (Keypair, error) {
		theirs := 0
		for _, other := range k.table.rows {
			p.Number = max(p.Number, other.Number)
			if other.UserID == user {
				theirs++
			}
		}
		p.Number++
		if limit := k.quotas.Limit(project, user, KeyPairs); limit >= 0 && theirs >= limit {
			return p, launcher.Errorf(launcher.ErrForbidden, "Quota exceeded, too many key pairs.")
		}
		if exists {
			return p, launcher.Errorf(launcher.ErrConflict, "Key pair '%s' already exists.", name)
		}
		return p, nil
	})
}

// keyBits is the size of keys that are made, as Nova makes them.
const keyBits = 2048

// Generate makes a key and adds its public part; the private one, in PEM, is given
// out and not kept.
func (k *Keypairs) Generate(ctx context.Context, project, user, name, typ string) (Keypair, string, error) {
	if typ == KeyCertificate {
		certificate, private, err := certify(user, k.now())
		if err != nil {
			return Keypair{}, "", err
		}
		p, err := k.Import(ctx, project, user, name, typ, certificate)
		return p, private, err
	}
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return Keypair{}, "", err
	}
	public, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		return Keypair{}, "", err
	}
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))) + " Generated-by-Nova"
	p, err := k.Import(ctx, project, user, name, typ, line)
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return p, string(private), err
}

// fingerprint checks a public key and gives the MD5 of its data in pairs of digits.
func fingerprint(public string) (string, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil || len(options) > 0 || len(strings.TrimSpace(string(rest))) > 0 {
		return "", launcher.Errorf(launcher.ErrInvalid, "Keypair data is invalid: failed to generate fingerprint")
	}
	return ssh.FingerprintLegacyMD5(key), nil
}

// Delete forgets a key. Servers that have it keep it.
func (k *Keypairs) Delete(ctx context.Context, user, name string) error {
	if existed, err := k.table.drop(ctx, keyOf(user, name)); err != nil || existed {
		return err
	}
	return noKeypair(user, name)
}
