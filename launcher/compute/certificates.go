package compute

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the API's fingerprint
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

// certificateYears is how long certificates are good that are made, as Nova's are.
const certificateYears = 10

// What Windows looks for in the certificate of a user who logs in by one.
var (
	subjectAltName    = asn1.ObjectIdentifier{2, 5, 29, 17}
	userPrincipalName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// certify makes a certificate of a user's, which its own key has signed, and the key,
// both in PEM.
func certify(user string, now time.Time) (certificate, private string, err error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return "", "", err
	}
	names, err := principal(user + "@localhost")
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: user}, NotBefore: now, NotAfter: now.AddDate(certificateYears, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{{Id: subjectAltName, Value: names}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), nil
}

// principal is a subject's alternative name of Microsoft's kind.
func principal(name string) ([]byte, error) {
	type otherName struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"utf8,explicit,tag:0"`
	}
	return asn1.Marshal(struct {
		Name otherName `asn1:"tag:0"`
	}{otherName{userPrincipalName, name}})
}

// certificatePrint checks a certificate and gives the SHA-1 of it in pairs of digits.
func certificatePrint(certificate string) (string, error) {
	block, rest := pem.Decode([]byte(certificate))
	if block != nil && block.Type == "CERTIFICATE" && strings.TrimSpace(string(rest)) == "" {
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			sum := sha1.Sum(block.Bytes) //nolint:gosec // as above
			pairs := make([]string, len(sum))
			for i, b := range sum {
				pairs[i] = hex.EncodeToString([]byte{b})
			}
			return strings.Join(pairs, ":"), nil
		}
	}
	return "", launcher.Errorf(launcher.ErrInvalid, "Keypair data is invalid: failed to generate X509 fingerprint. Error message: it is no certificate in PEM")
}
