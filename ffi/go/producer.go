package crossfade

/*
#include "crossfade.h"
*/
import "C"

import (
	"runtime"
	"time"
	"unsafe"
)

// Property is a name and a value that travel with a message.
type Property struct{ Name, Value string }

// Message is what an application sends. Empty fields are absent.
type Message struct {
	Body []byte
	// Key is the application's own, to find the message by.
	Key string
	// Tag is what subscriptions filter by.
	Tag string
	// OrderingKey: messages with the same one go to the same side and queue.
	OrderingKey string
	// IdempotencyKey: same key = same message, on either side. Made by the library when empty.
	IdempotencyKey string
	Properties     []Property
	// DeliverAfter delays the delivery.
	DeliverAfter time.Duration
}

// Receipt proves that one side has stored a message.
type Receipt struct {
	Side      Side
	Revision  uint64
	MessageID string
}

// Producer sends to one topic.
type Producer struct {
	handle
}

// Producer makes a producer and waits until a plan for the topic is here.
func (c *Client) Producer(topic string, timeout time.Duration) (*Producer, error) {
	name, free, err := cString("topic", topic)
	if err != nil {
		return nil, err
	}
	defer free()
	var made *C.crossfade_producer
	err = c.with("producer", func(client unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_producer_new((*C.crossfade_client)(client), name, milliseconds(timeout), &made)
	})
	if err != nil {
		return nil, err
	}
	return &Producer{handle{pointer: unsafe.Pointer(made)}}, nil
}

// Send sends a message once, to one side, and returns when its broker has stored it. After an error look at Persisted before sending again.
func (p *Producer) Send(message Message, timeout time.Duration) (Receipt, error) {
	// Go memory that C reaches through other Go memory must be pinned.
	var pinner runtime.Pinner
	defer pinner.Unpin()
	var given C.crossfade_message
	given.struct_size = C.uint32_t(unsafe.Sizeof(given))
	given.body = view(message.Body, &pinner)
	given.key = viewText(message.Key, &pinner)
	given.tag = viewText(message.Tag, &pinner)
	given.ordering_key = viewText(message.OrderingKey, &pinner)
	given.idempotency_key = viewText(message.IdempotencyKey, &pinner)
	given.deliver_after_ms = milliseconds(message.DeliverAfter)
	if count := len(message.Properties); count > 0 {
		properties := make([]C.crossfade_property, count)
		for index, property := range message.Properties {
			properties[index].name = viewText(property.Name, &pinner)
			properties[index].value = viewText(property.Value, &pinner)
		}
		pinner.Pin(&properties[0])
		given.properties = &properties[0]
		given.properties_len = C.size_t(count)
	}
	var receipt C.crossfade_receipt
	receipt.struct_size = C.uint32_t(unsafe.Sizeof(receipt))
	err := p.with("send", func(producer unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_producer_send((*C.crossfade_producer)(producer), &given, milliseconds(timeout), &receipt)
	})
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{
		Side:      Side(receipt.side),
		Revision:  uint64(receipt.revision),
		MessageID: C.GoString(&receipt.message_id[0]),
	}, nil
}

// Close ends the sends under way, for at most timeout, and frees the producer.
func (p *Producer) Close(timeout time.Duration) error {
	err := p.with("close", func(producer unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_producer_close((*C.crossfade_producer)(producer), milliseconds(timeout))
	})
	p.end(func(producer unsafe.Pointer) { C.crossfade_producer_free((*C.crossfade_producer)(producer)) })
	return err
}
