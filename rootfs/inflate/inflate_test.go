package inflate

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
)

func compress(t testing.TB, level int, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Name, w.Comment, w.Extra = "a name", "a comment", []byte("extra")
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(strings.Repeat("word", r.IntN(5)))
		b.WriteByte(byte(r.IntN(256)))
	}
	return b.Bytes()[:n]
}

func readAll(r io.Reader) ([]byte, error) {
	z, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

func TestReader(t *testing.T) {
	t.Logf("ISA-L in use: %v", Native())
	for _, n := range []int{0, 1, 1000, 700_003} {
		for _, level := range []int{gzip.NoCompression, gzip.HuffmanOnly, 1, 6, 9} {
			want := text(n)
			one := compress(t, level, want)
			for name, r := range map[string]io.Reader{
				"at once":    bytes.NewReader(one),
				"in halves":  iotest.HalfReader(bytes.NewReader(one)),
				"with error": iotest.DataErrReader(bytes.NewReader(one)),
			} {
				if got, err := readAll(r); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, level %d, %s: %d bytes, %v", n, level, name, len(got), err)
				}
			}
		}
	}
}

func TestReaderByBytes(t *testing.T) {
	want := text(5000)
	stream := append(compress(t, 6, want), compress(t, 1, want)...)
	got, err := readAll(iotest.OneByteReader(bytes.NewReader(stream)))
	if err != nil || !bytes.Equal(got, append(bytes.Clone(want), want...)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestReaderRefuses(t *testing.T) {
	whole := compress(t, 6, text(300_000))
	changed := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 0x55
		return b
	}
	tests := []struct {
		name   string
		stream []byte
		kind   error
	}{
		{"nothing", nil, nil},
		{"no gzip", []byte("this is not a gzip stream"), gzip.ErrHeader},
		{"half a header", whole[:5], io.ErrUnexpectedEOF},
		{"half the data", whole[:len(whole)/2], io.ErrUnexpectedEOF},
		{"half a trailer", whole[:len(whole)-4], io.ErrUnexpectedEOF},
		{"another checksum", changed(len(whole) - 8), gzip.ErrChecksum},
		{"another length", changed(len(whole) - 1), gzip.ErrChecksum},
		{"changed data", changed(len(whole) / 2), nil},
		{"rubbish behind", append(bytes.Clone(whole), "rubbish rubbish"...), gzip.ErrHeader},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := readAll(bytes.NewReader(test.stream))
			if test.name != "nothing" && err == nil || test.kind != nil && !errors.Is(err, test.kind) {
				t.Errorf("error %v, want %v", err, test.kind)
			}
		})
	}
	broken := errors.New("broken")
	if _, err := readAll(io.MultiReader(bytes.NewReader(whole[:1000]), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("error %v, want the source's", err)
	}
}

// FuzzReader holds the decoder in use and klauspost's together.
func FuzzReader(f *testing.F) {
	one := compress(f, 6, text(500))
	f.Add(one)
	f.Add(append(bytes.Clone(one), compress(f, gzip.HuffmanOnly, text(50))...))
	f.Add(compress(f, gzip.NoCompression, text(100)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 1 << 20
		all := func(z io.Reader, err error) ([]byte, error) {
			if err != nil {
				return nil, err
			}
			return io.ReadAll(io.LimitReader(z, limit))
		}
		z, err := NewReader(bytes.NewReader(stream))
		got, gotErr := all(z, err)
		if err == nil {
			z.Close()
		}
		k, err := gzip.NewReader(bytes.NewReader(stream))
		want, wantErr := all(k, err)
		// klauspost's lets the last of several members be cut short.
		if wantErr == nil && (gotErr != nil && !errors.Is(gotErr, io.ErrUnexpectedEOF) || !bytes.Equal(got, want)) {
			t.Errorf("%d bytes, %v; want %d", len(got), gotErr, len(want))
		}
	})
}

func BenchmarkReader(b *testing.B) {
	stream := compress(b, 6, text(16<<20))
	b.SetBytes(16 << 20)
	for b.Loop() {
		z, err := NewReader(bytes.NewReader(stream))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, z); err != nil {
			b.Fatal(err)
		}
		z.Close()
	}
}
