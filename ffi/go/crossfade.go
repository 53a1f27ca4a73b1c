// Package crossfade moves message topics from one broker cluster to another while the application keeps running.
//
// It wraps the C library: build with CGO_CFLAGS=-I.../ffi/include and CGO_LDFLAGS=-L<directory of libcrossfade>.
// Every method may be called from any goroutine; Close ends a handle, and calls after it return an error with CodeClosed.
package crossfade

/*
#cgo LDFLAGS: -lcrossfade
#include <stdlib.h>
#include "crossfade.h"
*/
import "C"

import (
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Stage is where a topic is.
type Stage int32

// The stages, in order.
const (
	SourceOnly Stage = C.CROSSFADE_STAGE_SOURCE_ONLY
	DualRead   Stage = C.CROSSFADE_STAGE_DUAL_READ
	DualWrite  Stage = C.CROSSFADE_STAGE_DUAL_WRITE
	Draining   Stage = C.CROSSFADE_STAGE_DRAINING
	TargetOnly Stage = C.CROSSFADE_STAGE_TARGET_ONLY
)

// Side is one of the two clusters.
type Side int32

// The sides. None stands where there is neither.
const (
	None   Side = C.CROSSFADE_SIDE_NONE
	Source Side = C.CROSSFADE_SIDE_SOURCE
	Target Side = C.CROSSFADE_SIDE_TARGET
)

// TopicStage is a topic's plan, as the client has it.
type TopicStage struct {
	Stage Stage
	// WeightBasisPoints is the target's share of writes, 0 to 10000; it counts in DualWrite only.
	WeightBasisPoints uint32
	Revision          uint64
}

// Version is the library's version, "major.minor.patch".
func Version() string { return C.GoString(C.crossfade_version()) }

// Client is one instance of the application.
type Client struct {
	handle
}

// Start registers the instance and loads its plans. The keys of config are those of CONFIGURATION.md.
func Start(config map[string]string, timeout time.Duration) (*Client, error) {
	if err := owned(C.crossfade_check_abi(C.CROSSFADE_ABI_VERSION)); err != nil {
		return nil, err
	}
	settings := C.crossfade_config_new()
	defer C.crossfade_config_free(settings)
	for key, value := range config {
		if err := set(settings, key, value); err != nil {
			return nil, err
		}
	}
	var started *C.crossfade_client
	if err := owned(C.crossfade_client_start(settings, milliseconds(timeout), &started)); err != nil {
		return nil, err
	}
	return &Client{handle{pointer: unsafe.Pointer(started)}}, nil
}

func set(settings *C.crossfade_config, key, value string) error {
	cKey, freeKey, err := cString("key", key)
	if err != nil {
		return err
	}
	defer freeKey()
	cValue, freeValue, err := cString("value of "+key, value)
	if err != nil {
		return err
	}
	defer freeValue()
	return owned(C.crossfade_config_set(settings, cKey, cValue))
}

// Stage is where a topic is, as far as this client knows.
func (c *Client) Stage(topic string) (TopicStage, error) {
	name, free, err := cString("topic", topic)
	if err != nil {
		return TopicStage{}, err
	}
	defer free()
	var stage C.crossfade_topic_stage
	stage.struct_size = C.uint32_t(unsafe.Sizeof(stage))
	err = c.with("stage", func(client unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_client_stage((*C.crossfade_client)(client), name, &stage)
	})
	if err != nil {
		return TopicStage{}, err
	}
	return TopicStage{
		Stage:             Stage(stage.stage),
		WeightBasisPoints: uint32(stage.weight_basis_points),
		Revision:          uint64(stage.revision),
	}, nil
}

// Shutdown ends the instance in order: consumers stop and commit, sends end, the registration is taken back. Close must follow.
func (c *Client) Shutdown(timeout time.Duration) error {
	return c.with("shutdown", func(client unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_client_shutdown((*C.crossfade_client)(client), milliseconds(timeout))
	})
}

// Close frees the client once the calls on it have returned. Without Shutdown before, it is what a crash is.
func (c *Client) Close() {
	c.end(func(client unsafe.Pointer) { C.crossfade_client_free((*C.crossfade_client)(client)) })
}

// handle guards a C handle: calls share it, and its end waits for them.
type handle struct {
	lock    sync.RWMutex
	pointer unsafe.Pointer
}

func (h *handle) with(operation string, call func(unsafe.Pointer) *C.crossfade_error) error {
	h.lock.RLock()
	defer h.lock.RUnlock()
	if h.pointer == nil {
		return &Error{Code: CodeClosed, Message: operation + ": the handle was closed", Side: None, fatal: true}
	}
	return owned(call(h.pointer))
}

func (h *handle) end(free func(unsafe.Pointer)) {
	h.lock.Lock()
	defer h.lock.Unlock()
	free(h.pointer)
	h.pointer = nil
}

// cString copies a text to C; the second result frees it.
func cString(name, text string) (*C.char, func(), error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, nil, &Error{Code: CodeInvalidConfig, Message: name + " has a NUL byte", Side: None}
	}
	copied := C.CString(text)
	return copied, func() { C.free(unsafe.Pointer(copied)) }, nil
}

// milliseconds rounds away from zero: a short wait is not none, and a negative one stays negative.
func milliseconds(duration time.Duration) C.int64_t {
	whole := duration / time.Millisecond
	switch rest := duration % time.Millisecond; {
	case rest > 0:
		whole++
	case rest < 0:
		whole--
	}
	return C.int64_t(whole)
}

// view lends a slice to C until the pinner lets go.
func view(data []byte, pinner *runtime.Pinner) C.crossfade_bytes {
	if len(data) == 0 {
		return C.crossfade_bytes{}
	}
	pinner.Pin(&data[0])
	return C.crossfade_bytes{data: (*C.uint8_t)(unsafe.Pointer(&data[0])), len: C.size_t(len(data))}
}

// viewText lends a string; an empty one is absent.
func viewText(text string, pinner *runtime.Pinner) C.crossfade_bytes {
	if text == "" {
		return C.crossfade_bytes{}
	}
	first := unsafe.StringData(text)
	pinner.Pin(first)
	return C.crossfade_bytes{data: (*C.uint8_t)(unsafe.Pointer(first)), len: C.size_t(len(text))}
}

// copied takes bytes that C lends.
func copied(lent C.crossfade_bytes) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(lent.data)), int(lent.len))...)
}
