//go:build cgo && isal

package inflate

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <isa-l/igzip_lib.h>

static void (*p_init)(struct inflate_state *);
static void (*p_reset)(struct inflate_state *);
static int (*p_inflate)(struct inflate_state *);

// load finds the library when the program runs, so that the program runs
// without it too.
static int load(void) {
	void *lib = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return 0;
	p_init = (void (*)(struct inflate_state *))dlsym(lib, "isal_inflate_init");
	p_reset = (void (*)(struct inflate_state *))dlsym(lib, "isal_inflate_reset");
	p_inflate = (int (*)(struct inflate_state *))dlsym(lib, "isal_inflate");
	return p_init && p_reset && p_inflate;
}

static struct inflate_state *start(void) {
	struct inflate_state *s = calloc(1, sizeof *s);
	if (s) {
		p_init(s);
		s->crc_flag = ISAL_GZIP;
	}
	return s;
}

static void again(struct inflate_state *s) {
	p_reset(s);
	s->crc_flag = ISAL_GZIP;
}

// clean zeroes the upper halves of the vector registers. The library leaves them as
// its checksums have used them, and some processors then take seventy times as long
// for the instructions that compute SHA-256.
#ifdef __x86_64__
__attribute__((target("avx"))) static void zero_upper(void) { __builtin_ia32_vzeroupper(); }
static void clean(void) {
	if (__builtin_cpu_supports("avx"))
		zero_upper();
}
#else
static void clean(void) {}
#endif

// step decompresses from in to out and says how much of both is left. The
// state keeps neither pointer.
static int step(struct inflate_state *s, uint8_t *in, uint32_t *in_left, uint8_t *out, uint32_t *out_left, int *finished) {
	s->next_in = in;
	s->avail_in = *in_left;
	s->next_out = out;
	s->avail_out = *out_left;
	int r = p_inflate(s);
	clean();
	*in_left = s->avail_in;
	*out_left = s->avail_out;
	*finished = s->block_state == ISAL_BLOCK_FINISH;
	s->next_in = s->next_out = NULL;
	s->avail_in = s->avail_out = 0;
	return r;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"unsafe"

	"github.com/klauspost/compress/gzip"
)

var haveNative = sync.OnceValue(func() bool { return C.load() != 0 })

const inputSize = 128 << 10

type native struct {
	r     io.Reader
	state *C.struct_inflate_state
	in    []byte // not yet decompressed
	buf   []byte
	ended bool // r is at its end
	// fresh: nothing of the next member has been seen.
	fresh bool
	err   error
}

func newNative(r io.Reader) io.ReadCloser {
	if !haveNative() {
		return nil
	}
	z := &native{r: r, state: C.start(), buf: make([]byte, inputSize), fresh: true}
	if z.state == nil {
		return nil
	}
	runtime.SetFinalizer(z, func(z *native) { z.Close() })
	return z
}

func (z *native) Close() error {
	runtime.SetFinalizer(z, nil)
	C.free(unsafe.Pointer(z.state))
	z.state = nil
	z.err = errors.New("gzip: reader is closed")
	return nil
}

func (z *native) Read(p []byte) (int, error) {
	if len(p) == 0 || z.err != nil {
		return 0, z.err
	}
	for {
		if len(z.in) == 0 && !z.ended {
			if err := z.fill(); err != nil {
				z.err = err
				return 0, err
			}
		}
		if len(z.in) == 0 && z.fresh && z.ended {
			z.err = io.EOF
			return 0, z.err
		}
		before := len(z.in)
		n, finished, err := z.step(p)
		if err != nil {
			z.err = err
			return n, err
		}
		z.fresh = finished
		if finished {
			C.again(z.state)
		} else if n == 0 && len(z.in) == before && z.ended {
			// Nothing more comes, and the member is not whole.
			z.err = io.ErrUnexpectedEOF
			return 0, z.err
		}
		if n > 0 {
			return n, nil
		}
	}
}

func (z *native) fill() error {
	n, err := z.r.Read(z.buf)
	z.in = z.buf[:n]
	if errors.Is(err, io.EOF) {
		z.ended = true
		return nil
	}
	return err
}

func (z *native) step(p []byte) (n int, finished bool, err error) {
	inLeft, outLeft, done := C.uint32_t(len(z.in)), C.uint32_t(min(len(p), 1<<30)), C.int(0)
	total := outLeft
	// An empty input still lets what is pending out.
	in := unsafe.SliceData(z.buf)
	if len(z.in) > 0 {
		in = unsafe.SliceData(z.in)
	}
	r := C.step(z.state, (*C.uint8_t)(in), &inLeft, (*C.uint8_t)(unsafe.SliceData(p)), &outLeft, &done)
	switch {
	case r == C.ISAL_INVALID_WRAPPER:
		return 0, false, gzip.ErrHeader
	case r == C.ISAL_INCORRECT_CHECKSUM:
		return 0, false, gzip.ErrChecksum
	case r < 0 || int(inLeft) > len(z.in) || outLeft > total:
		// After an error the counts mean nothing.
		return 0, false, fmt.Errorf("gzip: invalid deflate data (%d)", int(r))
	}
	z.in = z.in[len(z.in)-int(inLeft):]
	return int(total - outLeft), done != 0, nil
}
