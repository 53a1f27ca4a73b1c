package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// sender sends every type of message to PREFIX-theirs and PREFIX-theirs-ordered.
type sender struct {
	out          events
	topic        string
	plain        rocketmq.Producer
	transactions rocketmq.TransactionProducer
}

func newSender(out events, nameServer, prefix string) (*sender, error) {
	plain, err := rocketmq.NewProducer(append(options(nameServer, prefix+"-plain"),
		// By the sharding key where there is one.
		producer.WithQueueSelector(producer.NewHashQueueSelector()))...)
	if err != nil {
		return nil, err
	}
	transactions, err := rocketmq.NewTransactionProducer(listener{out}, options(nameServer, prefix+"-transactions")...)
	if err != nil {
		return nil, err
	}
	s := &sender{out, prefix + "-theirs", plain, transactions}
	return s, errors.Join(plain.Start(), transactions.Start())
}

func options(nameServer, group string) []producer.Option {
	return []producer.Option{
		producer.WithGroupName(group),
		producer.WithInstanceName(group),
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{nameServer})),
		producer.WithSendMsgTimeout(10 * time.Second),
	}
}

func (s *sender) sendAll() error {
	// First what takes longest: brokers ask for the end of a transaction after a minute. They ask in the order of the half messages.
	for _, id := range []string{"commit", "rollback", "check-rollback", "check-commit"} {
		message := s.message("transaction", "transaction-"+id)
		err := s.insist(func() (*primitive.SendResult, error) {
			result, err := s.transactions.SendMessageInTransaction(context.Background(), message)
			if err != nil {
				return nil, err
			}
			return result.SendResult, nil
		}, message)
		if err != nil {
			return err
		}
	}
	if err := s.send(s.message("retry", "retry-0")); err != nil {
		return err
	}
	if err := s.send(s.message("delayed", "delayed-0").WithDelayTimeLevel(1)); err != nil {
		return err
	}
	for i := 0; i < 4; i++ {
		message := s.message("normal", fmt.Sprint("normal-", i))
		message.WithTag([]string{"red", "绿"}[i%2])
		if err := s.send(message); err != nil {
			return err
		}
	}
	if err := s.send(s.message("normal", "unwanted-0").WithTag("blue")); err != nil {
		return err
	}
	// The only method that this client has.
	large := s.message("large", "large-zlib")
	large.Body = []byte("large-zlib " + strings.Repeat("lorem ipsum 中文 ", 1000))
	large.WithProperty("method", "zlib")
	err := s.insist(func() (*primitive.SendResult, error) {
		result, err := s.plain.SendSync(context.Background(), large)
		if large.Compress {
			// What the broker has been given: a failure to compress would be silent.
			large.WithProperty("wire", fmt.Sprintf("%x", large.CompressedBody[:4]))
		}
		return result, err
	}, large)
	if err != nil {
		return err
	}
	var batch []*primitive.Message
	for i := 0; i < 4; i++ {
		batch = append(batch, s.message("batch", fmt.Sprint("batch-", i)))
	}
	if err := s.send(batch...); err != nil {
		return err
	}
	return s.ordered()
}

// ordered: four keys in turn, each in the queue that its hash picks.
func (s *sender) ordered() error {
	for i := 0; i < 24; i++ {
		key := fmt.Sprint("key-", i%4)
		kind := "ordered"
		if i == 9 {
			kind = "stumble"
		}
		message := s.message(kind, fmt.Sprint("ordered-", i)).WithShardingKey(key)
		message.Topic = s.topic + "-ordered"
		message.WithProperty("ordering", key)
		message.WithProperty("number", strconv.Itoa(i))
		if err := s.send(message); err != nil {
			return err
		}
	}
	return nil
}

func (s *sender) message(kind, id string) *primitive.Message {
	message := primitive.NewMessage(s.topic, []byte(id+" Grüße 中文 😀"))
	message.WithTag("red").WithKeys([]string{id, "key-two"})
	message.WithProperty("kind", kind)
	message.WithProperty("id", id)
	message.WithProperty("text", "a \"=\\ b 中文 😀 ü")
	message.WithProperty("ключ", "1")
	return message
}

func (s *sender) send(messages ...*primitive.Message) error {
	return s.insist(func() (*primitive.SendResult, error) {
		return s.plain.SendSync(context.Background(), messages...)
	}, messages...)
}

// insist sends until it is stored: a broker on a busy machine turns requests away (code 2).
func (s *sender) insist(send func() (*primitive.SendResult, error), messages ...*primitive.Message) error {
	result, err := send()
	for tries := 1; err != nil && tries < 50 && strings.Contains(err.Error(), "CODE: 2,"); tries++ {
		time.Sleep(100 * time.Millisecond)
		result, err = send()
	}
	if err != nil {
		return err
	}
	if result.Status != primitive.SendOK {
		return fmt.Errorf("%v: %v", messages, result)
	}
	for _, message := range messages {
		s.out.sent(message, result)
	}
	return nil
}

func (s *sender) shutdown() error {
	return errors.Join(s.plain.Shutdown(), s.transactions.Shutdown())
}

// listener: what a transaction's id ends with is its end; with "check" in it only the broker's question is answered.
type listener struct{ out events }

func (l listener) ExecuteLocalTransaction(message *primitive.Message) primitive.LocalTransactionState {
	id := message.GetProperty("id")
	if strings.Contains(id, "check") {
		return primitive.UnknowState
	}
	return end(id)
}

func (l listener) CheckLocalTransaction(message *primitive.MessageExt) primitive.LocalTransactionState {
	l.out.checked(message)
	return end(message.GetProperty("id"))
}

func end(id string) primitive.LocalTransactionState {
	if strings.HasSuffix(id, "commit") {
		return primitive.CommitMessageState
	}
	return primitive.RollbackMessageState
}
