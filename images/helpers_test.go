package images_test

import (
	"archive/tar"
	"crypto/x509"
	"encoding/pem"
	"io"
)

func newTar(w io.Writer) *tar.Writer { return tar.NewWriter(w) }

func pemCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
