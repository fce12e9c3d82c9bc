package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/images/content"
)

// A new layer image is whole, but only in memory: a server can start from it
// at once, a killed process loses nothing of it, a power failure might. So its
// record bears the kernel's boot ID until, in the background, the image has
// been synced and its digest taken: then it is sealed. An unsealed layer image
// of another boot is as good as absent. Waiting for the disk would cost a pull
// more than writing the image does.

// bootID tells one run of the kernel from the next.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // nothing unsealed is believed, then
	}
	return strings.TrimSpace(string(b))
})

// present says whether a layer's image can be believed to be what was written.
func (l *Layer) present() bool {
	return l.Recipe == recipe && (l.Sealed() || l.Boot != "" && l.Boot == bootID())
}

// Sealed says whether the layer image is on disk and its digest known.
func (l *Layer) Sealed() bool { return l.Digest != v1.Hash{} }

// sealer seals layer images one at a time, when nothing is being unpacked or held.
type sealer struct {
	mu      sync.Mutex
	idle    *sync.Cond
	busy    int // unpacks under way, and holders
	queue   []*Layer
	running bool
	closed  bool
}

func newSealer() *sealer {
	s := &sealer{}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// begin holds sealing off until the function it gives is called.
func (s *sealer) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy--
		s.idle.Broadcast()
	}
}

// seal queues a layer image.
func (s *Store) seal(l *Layer) {
	q := s.sealer
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	q.queue = append(q.queue, l)
	if !q.running {
		q.running = true
		go s.sealAll()
	}
}

// sealAll works the queue off on a thread of lowest priority, which ends with
// it.
func (s *Store) sealAll() {
	runtime.LockOSThread()
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19); err != nil {
		s.log.Debug("sealing at full priority", "err", err)
	}
	q := s.sealer
	q.mu.Lock()
	defer q.mu.Unlock()
	for synced := false; ; {
		for q.busy > 0 && !q.closed {
			q.idle.Wait()
		}
		if len(q.queue) == 0 && synced {
			q.running = false
			q.idle.Broadcast()
			return
		}
		var l *Layer
		if len(q.queue) > 0 {
			l, q.queue = q.queue[0], q.queue[1:]
		}
		synced = l == nil
		q.mu.Unlock()
		if err := s.sealNext(l); err != nil {
			s.log.Warn("layer image not sealed", "err", err)
		}
		q.mu.Lock()
	}
}

// sealNext seals a layer image or, if none is left, what they have in common.
func (s *Store) sealNext(l *Layer) error {
	if l == nil {
		return content.SyncDir(s.path("layers"))
	}
	return s.sealOne(context.Background(), l)
}

// sealOne makes one layer image durable, but for its names in the directory: no
// order in which those get there makes a record without its image believed. It
// may have been removed meanwhile.
func (s *Store) sealOne(ctx context.Context, l *Layer) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("layer image %s: %w", l.DiffID, err)
		}
	}()
	f, err := os.Open(s.imagePath(l.DiffID))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	sealed := *l
	sealed.Boot = ""
	if sealed.Digest, err = digestOf(f); err != nil {
		return err
	}
	release, err := s.locks.Acquire(ctx, content.Byte(l.DiffID))
	if err != nil {
		return err
	}
	defer release()
	now, err := s.lookup(l.DiffID)
	if errors.Is(err, ErrNotFound) || err == nil && now.Sealed() {
		return nil
	}
	if err != nil {
		return err
	}
	return content.WriteLater(s.path("tmp"), s.recordPath(l.DiffID), &sealed)
}

func digestOf(f *os.File) (v1.Hash, error) {
	sum := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		return v1.Hash{}, err
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, nil
}

// Close waits until all layer images are on disk. The store must not be used
// any more. A process that ends without it loses nothing but, should the power
// fail soon after, the newest layer images.
func (s *Store) Close() error {
	q := s.sealer
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.idle.Broadcast()
	for q.running {
		q.idle.Wait()
	}
	return nil
}

// Verify reads a layer image again and compares it with its digest. One that
// is not sealed yet is sealed. One that is damaged is made anew by the next Unpack
// of an image that has the layer; servers that run go on with what they have.
func (s *Store) Verify(ctx context.Context, diffID v1.Hash) error {
	l, err := s.lookup(diffID)
	if err != nil {
		return err
	}
	if !l.Sealed() {
		if err := s.sealOne(ctx, l); err != nil {
			return err
		}
		return content.SyncDir(s.path("layers"))
	}
	f, err := os.Open(s.imagePath(diffID))
	if err != nil {
		return fmt.Errorf("layer image %s: %w", diffID, err)
	}
	defer f.Close()
	got, err := digestOf(f)
	if err != nil {
		return fmt.Errorf("layer image %s: %w", diffID, err)
	}
	if got != l.Digest {
		err := fmt.Errorf("layer image %s has digest %s, not %s: %w", diffID, got, l.Digest, ErrCorrupt)
		return errors.Join(err, s.markDamaged(ctx, l))
	}
	return nil
}

// markDamaged notes that a layer image is not what it was, unless it is another by
// now.
func (s *Store) markDamaged(ctx context.Context, l *Layer) error {
	release, err := s.locks.Acquire(ctx, content.Byte(l.DiffID))
	if err != nil {
		return err
	}
	defer release()
	now, err := s.lookup(l.DiffID)
	if err != nil || !now.Made.Equal(l.Made) {
		return nil
	}
	now.Damaged = true
	return content.WriteRecord(s.path("tmp"), s.recordPath(l.DiffID), now)
}
