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

// Delivery is a message to be acked or nacked on the consumer that gave it.
type Delivery struct {
	Message
	Side      Side
	MessageID string
	// Attempt is 1 for the first delivery to the group.
	Attempt uint32
	// Revision of the plan under which it was routed; 0 from a producer that does not use this library.
	Revision uint64
	batch    *batch
	index    C.size_t
}

// batch keeps C's batch for as long as one of its deliveries is used.
type batch struct{ pointer *C.crossfade_batch }

// Consumer receives one topic for one group.
type Consumer struct {
	handle
}

// Consumer joins a group and waits until a plan for the topic is here. tags: only messages with one of these, separated by "||"; "" for all.
func (c *Client) Consumer(topic, group, tags string, timeout time.Duration) (*Consumer, error) {
	cTopic, freeTopic, err := cString("topic", topic)
	if err != nil {
		return nil, err
	}
	defer freeTopic()
	cGroup, freeGroup, err := cString("group", group)
	if err != nil {
		return nil, err
	}
	defer freeGroup()
	var cTags *C.char
	if tags != "" {
		text, freeTags, err := cString("tags", tags)
		if err != nil {
			return nil, err
		}
		defer freeTags()
		cTags = text
	}
	var made *C.crossfade_consumer
	err = c.with("consumer", func(client unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_consumer_new((*C.crossfade_client)(client), cTopic, cGroup, cTags, milliseconds(timeout), &made)
	})
	if err != nil {
		return nil, err
	}
	return &Consumer{handle{pointer: unsafe.Pointer(made)}}, nil
}

// Receive returns at most max messages from both sides in turn, as soon as there is one; none when timeout has passed.
func (c *Consumer) Receive(max int, timeout time.Duration) ([]*Delivery, error) {
	if max < 0 {
		max = 0 // refused by the library, in its own words
	}
	shared := &batch{}
	err := c.with("receive", func(consumer unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_consumer_receive((*C.crossfade_consumer)(consumer), C.size_t(max), milliseconds(timeout), &shared.pointer)
	})
	if err != nil || shared.pointer == nil {
		return nil, err
	}
	runtime.SetFinalizer(shared, func(b *batch) { C.crossfade_batch_free(b.pointer) })
	deliveries := make([]*Delivery, C.crossfade_batch_len(shared.pointer))
	for index := range deliveries {
		if deliveries[index], err = shared.get(C.size_t(index)); err != nil {
			return nil, err
		}
	}
	return deliveries, nil
}

func (b *batch) get(index C.size_t) (*Delivery, error) {
	defer runtime.KeepAlive(b)
	var lent C.crossfade_delivery
	lent.struct_size = C.uint32_t(unsafe.Sizeof(lent))
	if err := owned(C.crossfade_batch_get(b.pointer, index, &lent)); err != nil {
		return nil, err
	}
	delivery := &Delivery{
		Message: Message{
			Body:           copied(lent.body),
			Key:            string(copied(lent.key)),
			Tag:            string(copied(lent.tag)),
			IdempotencyKey: string(copied(lent.idempotency_key)),
		},
		Side:      Side(lent.side),
		MessageID: string(copied(lent.message_id)),
		Attempt:   uint32(lent.attempt),
		Revision:  uint64(lent.revision),
		batch:     b,
		index:     index,
	}
	for _, property := range unsafe.Slice(lent.properties, int(lent.properties_len)) {
		delivery.Properties = append(delivery.Properties, Property{
			Name:  string(copied(property.name)),
			Value: string(copied(property.value)),
		})
	}
	return delivery, nil
}

// Ack says that the handler succeeded: the message is done for this group.
func (c *Consumer) Ack(delivery *Delivery, timeout time.Duration) error {
	defer runtime.KeepAlive(delivery)
	return c.with("ack", func(consumer unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_consumer_ack((*C.crossfade_consumer)(consumer), delivery.batch.pointer, delivery.index, milliseconds(timeout))
	})
}

// Nack says that the handler failed: the message comes again after about redeliverAfter.
func (c *Consumer) Nack(delivery *Delivery, redeliverAfter, timeout time.Duration) error {
	defer runtime.KeepAlive(delivery)
	return c.with("nack", func(consumer unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_consumer_nack(
			(*C.crossfade_consumer)(consumer), delivery.batch.pointer, delivery.index, milliseconds(redeliverAfter), milliseconds(timeout))
	})
}

// Close stops receiving, waits for what was handed out for at most timeout, commits, leaves the group, and frees the consumer.
func (c *Consumer) Close(timeout time.Duration) error {
	err := c.with("close", func(consumer unsafe.Pointer) *C.crossfade_error {
		return C.crossfade_consumer_close((*C.crossfade_consumer)(consumer), milliseconds(timeout))
	})
	c.end(func(consumer unsafe.Pointer) { C.crossfade_consumer_free((*C.crossfade_consumer)(consumer)) })
	return err
}
