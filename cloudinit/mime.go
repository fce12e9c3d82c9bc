package cloudinit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime/multipart"
	"net/textproto"
)

// TypeScriptPerBoot is the media type of a script that is run at each boot, late.
const TypeScriptPerBoot = typeScript + "-per-boot"

// WithScript is user-data that has a script besides, of a media type such as
// TypeScriptPerBoot. What the user-data says stays as it is.
func WithScript(user []byte, mediaType string, script Script) ([]byte, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=%q\r\n\r\n", w.Boundary())
	// A part that is compressed is not looked into for a message.
	if plain, err := gunzip(user); err == nil {
		user = plain
	}
	switch {
	case len(bytes.TrimSpace(user)) == 0:
	case isMIME(user):
		// A message within the message: its header is the part's.
		fmt.Fprintf(&b, "--%s\r\n%s\r\n", w.Boundary(), user)
	case isGzip(user):
		if err := addPart(w, "application/gzip", "user-data.gz", user); err != nil {
			return nil, err
		}
	default:
		// Of a plain text both ends look at the first line.
		if err := addPart(w, "text/plain", "user-data", user); err != nil {
			return nil, err
		}
	}
	if err := addPart(w, mediaType, script.Name, script.Body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func addPart(w *multipart.Writer, mediaType, name string, body []byte) error {
	p, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Type":              {mediaType},
		"Content-Transfer-Encoding": {"base64"},
		"Content-Disposition":       {fmt.Sprintf("attachment; filename=%q", name)},
	})
	if err != nil {
		return err
	}
	// In lines, as RFC 2045 wants it.
	text := base64.StdEncoding.EncodeToString(body)
	for len(text) > 0 {
		n := min(len(text), 76)
		if _, err := fmt.Fprintf(p, "%s\r\n", text[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}
