package cloudinit

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"

	"encoding/base64"
)

// What user-data may amount to. cloud-init itself has no bounds; these keep a
// hostile text from holding up a boot.
const (
	maxUserData = 32 << 20 // bytes, each of a text, uncompressed, and all parts together
	maxParts    = 1000
	maxNesting  = 8
)

// Media types of parts, and the first line that stands for each of them where
// nothing says so, the longest first.
const (
	typeConfig        = "text/cloud-config"
	typeConfigArchive = "text/cloud-config-archive"
	typeConfigPatch   = "text/cloud-config-jsonp"
	typeScript        = "text/x-shellscript"
	typeBoothook      = "text/cloud-boothook"
	typeInclude       = "text/x-include-url"
	typeIncludeOnce   = "text/x-include-once-url"
	typePartHandler   = "text/part-handler"
	typeTemplate      = "text/jinja2"
)

var firstLines = []struct{ prefix, mediaType string }{
	{"#cloud-config-archive", typeConfigArchive},
	{"#cloud-config-jsonp", typeConfigPatch},
	{"## template: jinja", typeTemplate},
	{"#cloud-boothook", typeBoothook},
	{"#include-once", typeIncludeOnce},
	{"#cloud-config", typeConfig},
	{"#part-handler", typePartHandler},
	{"#include", typeInclude},
	{"#!", typeScript},
}

// typeOf tells a text's media type by its beginning, "" where that says nothing.
func typeOf(text []byte) string {
	text = bytes.TrimLeft(text, " \t\r\n")
	for _, f := range firstLines {
		if len(text) >= len(f.prefix) && strings.EqualFold(string(text[:len(f.prefix)]), f.prefix) {
			return f.mediaType
		}
	}
	return ""
}

// part is one text of user-data, decoded.
type part struct {
	name      string // its file name, or its number
	mediaType string
	mergeType string // how a cloud-config is merged with those before it, "" for its own word
	body      []byte
}

// splitter takes user-data apart.
type splitter struct {
	parts    []part
	size     int
	warnings []string
}

func (s *splitter) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// split returns the parts of data in their order, and warnings of those that
// cannot be read.
func split(data []byte) ([]part, []string) {
	s := new(splitter)
	if err := s.text(data); err != nil {
		s.warn("%v", err)
	}
	return s.parts, s.warnings
}

// text takes in what is no part of anything: a MIME message or a single text,
// either of them compressed or not.
func (s *splitter) text(data []byte) error {
	if isGzip(data) {
		var err error
		if data, err = gunzip(data); err != nil {
			return err
		}
	}
	if !isMIME(data) {
		return s.part(part{body: data})
	}
	msg, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("MIME message: %w", err)
	}
	return s.entity(header(msg.Header), msg.Body, 0)
}

// isMIME goes by what cloud-init does.
func isMIME(data []byte) bool {
	head := bytes.ToLower(data[:min(len(data), 4096)])
	return bytes.Contains(head, []byte("mime-version:"))
}

// header reads the fields of a message and of a part of one.
type header map[string][]string

func (h header) get(key string) string { return mail.Header(h).Get(key) }

// entity takes in a message or a part of one.
func (s *splitter) entity(h header, body io.Reader, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("MIME parts nested more than %d deep", maxNesting)
	}
	mediaType, params, err := mime.ParseMediaType(h.get("Content-Type"))
	if err != nil {
		mediaType = "text/plain"
	}
	if strings.HasPrefix(mediaType, "multipart/") {
		return s.entities(multipart.NewReader(body, params["boundary"]), depth+1)
	}
	data, err := decodeTransfer(h.get("Content-Transfer-Encoding"), body)
	if err != nil {
		return err
	}
	p := part{mediaType: mediaType, body: data, mergeType: h.get("Merge-Type")}
	if p.mergeType == "" {
		p.mergeType = h.get("X-Merge-Type")
	}
	if _, params, err := mime.ParseMediaType(h.get("Content-Disposition")); err == nil {
		p.name = params["filename"]
	}
	if p.name == "" {
		p.name = params["name"]
	}
	return s.part(p)
}

// entities takes in the parts of a multipart message. One that cannot be read
// leaves the others as they are.
func (s *splitter) entities(r *multipart.Reader, depth int) error {
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("MIME message: %w", err)
		}
		if err := s.entity(header(p.Header), p, depth); err != nil {
			if len(s.parts) >= maxParts || s.size > maxUserData {
				return err
			}
			s.warn("%v", err)
		}
	}
}

func decodeTransfer(encoding string, body io.Reader) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	data, err := readBounded(body)
	if err != nil {
		return nil, fmt.Errorf("MIME part: %w", err)
	}
	return data, nil
}

// part takes in a text with what its header said of it.
func (s *splitter) part(p part) error {
	if p.name == "" {
		p.name = fmt.Sprintf("part-%03d", len(s.parts)+1)
	}
	if isGzipType(p.mediaType) {
		data, err := gunzip(p.body)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		p.body, p.mediaType = data, ""
	}
	// A header that says no more than "text" is no word against the first line.
	if p.mediaType == "" || p.mediaType == "text/plain" || p.mediaType == "text/x-not-multipart" || p.mediaType == typeScript {
		if found := typeOf(p.body); found != "" {
			p.mediaType = found
		}
	}
	if s.size += len(p.body); s.size > maxUserData {
		return fmt.Errorf("more than %d bytes", maxUserData)
	}
	if p.mediaType == typeConfigArchive {
		return s.archive(p)
	}
	if len(s.parts) >= maxParts {
		return fmt.Errorf("more than %d parts", maxParts)
	}
	s.parts = append(s.parts, p)
	return nil
}

// archive takes in a cloud-config-archive: a YAML list of texts, or of maps with
// content, type and filename.
func (s *splitter) archive(p part) error {
	v, err := parseYAML(p.body)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("%s: a cloud-config-archive is a list", p.name)
	}
	for i, v := range list {
		entry, ok := v.(map[string]any)
		if text, isText := v.(string); isText {
			entry, ok = map[string]any{"content": text}, true
		}
		if !ok {
			s.warn("%s: entry %d: neither a text nor a map", p.name, i+1)
			continue
		}
		inner := part{mediaType: text(entry["type"]), name: text(entry["filename"]), body: []byte(text(entry["content"])),
			mergeType: text(entry["Merge-Type"])}
		if inner.mediaType == "" {
			if inner.mediaType = typeOf(inner.body); inner.mediaType == "" {
				inner.mediaType = typeConfig
			}
		}
		if inner.mediaType == typeConfigArchive {
			s.warn("%s: entry %d: an archive within an archive", p.name, i+1)
			continue
		}
		if err := s.part(inner); err != nil {
			return err
		}
	}
	return nil
}

func isGzipType(mediaType string) bool {
	name, ok := strings.CutPrefix(mediaType, "application/")
	name = strings.TrimPrefix(name, "x-")
	switch name {
	case "gzip", "gzip-compressed", "gzipped", "compress", "compressed", "gunzip":
		return ok
	}
	return false
}

func isGzip(data []byte) bool { return bytes.HasPrefix(data, []byte{0x1f, 0x8b}) }

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return readBounded(r)
}

// readBounded reads everything there is, or fails beyond maxUserData.
func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxUserData+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxUserData {
		return nil, fmt.Errorf("more than %d bytes", maxUserData)
	}
	return data, nil
}
