#include "textflag.h"

// PID 1's entry point, if the linker is told so (-E _rt0_slipway): notes the time, and
// goes on to Go's own.
TEXT _rt0_slipway(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ·entered(SB)
	JMP  _rt0_amd64_linux(SB)
