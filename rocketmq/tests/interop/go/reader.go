package main

import (
	"context"
	"errors"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// reader handles what comes in PREFIX-ours and PREFIX-ours-ordered. A message whose property kind is retry or stumble fails the first time.
type reader struct{ concurrent, ordered rocketmq.PushConsumer }

func newReader(out events, nameServer, prefix string) (*reader, error) {
	concurrent, err := newConsumer(nameServer, prefix+"-theirs")
	if err != nil {
		return nil, err
	}
	tags := consumer.MessageSelector{Type: consumer.TAG, Expression: "red || 绿"}
	err = concurrent.Subscribe(prefix+"-ours", tags, func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			out.handled("concurrent", message)
			if message.GetProperty("kind") == "retry" && message.ReconsumeTimes == 0 {
				if attempt, ok := primitive.GetConcurrentlyCtx(ctx); ok {
					// One second.
					attempt.DelayLevelWhenNextConsume = 1
				}
				return consumer.ConsumeRetryLater, nil
			}
		}
		return consumer.ConsumeSuccess, nil
	})
	if err != nil {
		return nil, err
	}
	ordered, err := newConsumer(nameServer, prefix+"-theirs-ordered", consumer.WithConsumerOrder(true),
		consumer.WithSuspendCurrentQueueTimeMillis(100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	err = ordered.Subscribe(prefix+"-ours-ordered", consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			out.handled("ordered", message)
			if message.GetProperty("kind") == "stumble" && message.ReconsumeTimes == 0 {
				return consumer.SuspendCurrentQueueAMoment, nil
			}
		}
		return consumer.ConsumeSuccess, nil
	})
	if err != nil {
		return nil, err
	}
	return &reader{concurrent, ordered}, errors.Join(concurrent.Start(), ordered.Start())
}

func newConsumer(nameServer, group string, more ...consumer.Option) (rocketmq.PushConsumer, error) {
	options := append([]consumer.Option{
		consumer.WithGroupName(group),
		// Else all clusters would share one client with one list of name servers.
		consumer.WithInstance(group),
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{nameServer})),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithConsumeMessageBatchMaxSize(1),
	}, more...)
	return rocketmq.NewPushConsumer(options...)
}

func (r *reader) shutdown() error {
	return errors.Join(r.concurrent.Shutdown(), r.ordered.Shutdown())
}
