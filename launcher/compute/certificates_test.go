package compute

import (
	"crypto/tls"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
)

func TestCertificates(t *testing.T) {
	b, ctx := newBench(t), t.Context()
	p, private, err := b.Keypairs.Generate(ctx, "p", "u", "k", KeyCertificate)
	if err != nil || p.Type != KeyCertificate || len(p.Fingerprint) != 59 {
		t.Fatalf("made %+v, %v", p, err)
	}
	both, err := tls.X509KeyPair([]byte(p.PublicKey), []byte(private))
	if err != nil {
		t.Fatal(err)
	}
	c := both.Leaf
	if err := c.CheckSignatureFrom(c); c.Subject.CommonName != "u" || len(c.ExtKeyUsage) != 1 {
		t.Errorf("the certificate is %+v, %v", c.Subject, err)
	}
	same, err := b.Keypairs.Import(ctx, "p", "u", "again", KeyCertificate, p.PublicKey)
	if err != nil || same.Fingerprint != p.Fingerprint {
		t.Errorf("imported %+v, %v", same, err)
	}
	for _, bad := range []string{"", "ssh-rsa AAAA", private, p.PublicKey + p.PublicKey, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		_, err = b.Keypairs.Import(ctx, "p", "u", "bad", KeyCertificate, bad)
		refused(t, err, launcher.ErrInvalid, "it is no certificate in PEM")
	}
}
