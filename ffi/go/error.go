package crossfade

/*
#include "crossfade.h"
*/
import "C"

import "fmt"

// Code is a stable number: 1xx this library, 2xx brokers, 3xx the control plane.
type Code int32

// The codes. A newer library may give others.
const (
	CodeNullParameter     Code = C.CROSSFADE_NULL_PARAMETER
	CodePanic             Code = C.CROSSFADE_PANIC
	CodeInvalidConfig     Code = C.CROSSFADE_INVALID_CONFIG
	CodeInvalidMessage    Code = C.CROSSFADE_INVALID_MESSAGE
	CodeClosed            Code = C.CROSSFADE_CLOSED
	CodeABIMismatch       Code = C.CROSSFADE_ABI_MISMATCH
	CodeUnsupported       Code = C.CROSSFADE_UNSUPPORTED
	CodeStaleDelivery     Code = C.CROSSFADE_STALE_DELIVERY
	CodeUnexpected        Code = C.CROSSFADE_UNEXPECTED
	CodeTimeout           Code = C.CROSSFADE_TIMEOUT
	CodeUnavailable       Code = C.CROSSFADE_UNAVAILABLE
	CodeThrottled         Code = C.CROSSFADE_THROTTLED
	CodeNotFound          Code = C.CROSSFADE_NOT_FOUND
	CodePermissionDenied  Code = C.CROSSFADE_PERMISSION_DENIED
	CodeSealed            Code = C.CROSSFADE_SEALED
	CodeStageUnknown      Code = C.CROSSFADE_STAGE_UNKNOWN
	CodeLeaseOver         Code = C.CROSSFADE_LEASE_OVER
	CodeSuperseded        Code = C.CROSSFADE_SUPERSEDED
	CodeInvalidPlan       Code = C.CROSSFADE_INVALID_PLAN
	CodeIllegalTransition Code = C.CROSSFADE_ILLEGAL_TRANSITION
)

// Persisted says whether the broker kept the message of a failed send.
type Persisted int32

// After PersistedMaybe nobody can tell: send again with the same idempotency key only.
const (
	PersistedNo    Persisted = C.CROSSFADE_PERSISTED_NO
	PersistedMaybe Persisted = C.CROSSFADE_PERSISTED_MAYBE
	PersistedYes   Persisted = C.CROSSFADE_PERSISTED_YES
)

// Error is what every method returns that can fail; use errors.As.
type Error struct {
	Code      Code
	Message   string
	Persisted Persisted
	// Side is where it happened; None where there is none.
	Side      Side
	retriable bool
	fatal     bool
}

// Error says what went wrong, where, and what to do.
func (e *Error) Error() string { return fmt.Sprintf("%s (code %d)", e.Message, e.Code) }

// Retriable says whether the same call can succeed later.
func (e *Error) Retriable() bool { return e.retriable }

// Fatal says whether the handle is of no further use.
func (e *Error) Fatal() bool { return e.fatal }

// owned takes an error over from C and frees it; NULL becomes nil.
func owned(from *C.crossfade_error) error {
	if from == nil {
		return nil
	}
	defer C.crossfade_error_free(from)
	return &Error{
		Code:      Code(C.crossfade_error_code(from)),
		Message:   C.GoString(C.crossfade_error_message(from)),
		Persisted: Persisted(C.crossfade_error_persisted(from)),
		Side:      Side(C.crossfade_error_side(from)),
		retriable: bool(C.crossfade_error_is_retriable(from)),
		fatal:     bool(C.crossfade_error_is_fatal(from)),
	}
}
