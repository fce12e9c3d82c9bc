package rootfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// A stream comes out as it went in whenever a processor becomes spare.
func TestAhead(t *testing.T) {
	in := make([]byte, 5*blockBytes+123)
	_, _ = rand.NewChaCha8([32]byte{}).Read(in)
	sum := sha256.Sum256(in)
	broken := errors.New("broken")
	for after := range 8 {
		t.Run(fmt.Sprint("spare after ", after), func(t *testing.T) {
			asked := 0
			spare := func() bool { asked++; return asked > after }
			a := newAhead(bytes.NewReader(in), int64(len(in)), spare)
			out, err := io.ReadAll(a)
			a.Close()
			a.Close()
			if err != nil || !bytes.Equal(in, out) || a.Hash().Hex != hex.EncodeToString(sum[:]) {
				t.Errorf("%d of %d bytes, %v, %s", len(out), len(in), err, a.Hash())
			}

			asked = 0
			a = newAhead(bytes.NewReader(in), int64(len(in))-1, spare)
			if _, err := io.ReadAll(a); !errors.Is(err, ErrTooLarge) {
				t.Errorf("a byte more than the limit: %v", err)
			}
			a.Close()

			asked = 0
			a = newAhead(io.MultiReader(bytes.NewReader(in), iotest.ErrReader(broken)), 1<<30, spare)
			if out, err := io.ReadAll(a); !errors.Is(err, broken) || !bytes.Equal(in, out) {
				t.Errorf("%d of %d bytes, %v", len(out), len(in), err)
			}
			a.Close()

			asked = 0
			a = newAhead(bytes.NewReader(in), 1<<30, spare)
			if _, err := a.Next(1); err != nil {
				t.Error(err)
			}
			a.Close() // in the middle
		})
	}
}
