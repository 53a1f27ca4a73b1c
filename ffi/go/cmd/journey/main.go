// Program journey takes a topic through all stages, with a rollback on the way, on two embedded clusters of this process.
//
// The plan file stands in for the control plane. usage: journey DIRECTORY (for the plan file); exits 0 only when everything held.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"crossfade"
)

const (
	topic    = "orders"
	perStage = 60
	timeout  = 10 * time.Second
)

var steps = []struct {
	stage  crossfade.Stage
	name   string
	weight uint32
}{
	{crossfade.SourceOnly, "source_only", 0},
	{crossfade.DualRead, "dual_read", 0},
	{crossfade.DualWrite, "dual_write", 5000},
	{crossfade.DualRead, "dual_read", 0}, // the rollback
	{crossfade.DualWrite, "dual_write", 5000},
	{crossfade.Draining, "draining", 0},
	{crossfade.TargetOnly, "target_only", 0},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: journey DIRECTORY")
		os.Exit(2)
	}
	if err := journey(filepath.Join(os.Args[1], "plans.json")); err != nil {
		fmt.Fprintln(os.Stderr, "journey:", err)
		os.Exit(1)
	}
}

func journey(plans string) error {
	if err := publish(plans, 0); err != nil {
		return err
	}
	client, err := crossfade.Start(map[string]string{
		"instance.name":  "journey-go",
		"source.address": "memory://go-source?auto_create=true",
		"target.address": "memory://go-target?auto_create=true",
		"plan.file":      plans,
		"plan.every_ms":  "20",
	}, timeout)
	if err != nil {
		return err
	}
	defer client.Close()
	producer, err := client.Producer(topic, timeout)
	if err != nil {
		return err
	}
	consumer, err := client.Consumer(topic, "billing", "", timeout)
	if err != nil {
		return err
	}
	if err := badInput(client, producer); err != nil {
		return err
	}
	handled := ledger{consumer: consumer, acks: map[int]int{}, nacked: map[int]bool{}}
	for step := range steps {
		if step > 0 {
			if err := publish(plans, step); err != nil {
				return err
			}
			if err := handled.awaitStage(client, step); err != nil {
				return err
			}
		}
		if err := send(producer, step); err != nil {
			return err
		}
		if err := handled.until((step + 1) * perStage); err != nil {
			return err
		}
	}
	for id := 0; id < len(steps)*perStage; id++ {
		if handled.acks[id] != 1 {
			return fmt.Errorf("message %d was acked %d times", id, handled.acks[id])
		}
	}
	if err := client.Shutdown(timeout); err != nil {
		return err
	}
	if err := expect(crossfade.CodeClosed, sending(producer, crossfade.Message{}, timeout)); err != nil {
		return err
	}
	fmt.Printf("%d messages, each handled once\n", len(handled.acks))
	return nil
}

// send sends the messages of one step from four goroutines and checks the sides.
func send(producer *crossfade.Producer, step int) error {
	const senders = 4
	var (
		lock  sync.Mutex
		group sync.WaitGroup
		to    = map[crossfade.Side]int{}
		errs  []error
	)
	for sender := 0; sender < senders; sender++ {
		group.Add(1)
		go func(sender int) {
			defer group.Done()
			for id := step*perStage + sender; id < (step+1)*perStage; id += senders {
				text := strconv.Itoa(id)
				receipt, err := producer.Send(crossfade.Message{
					Body:       []byte(text),
					Key:        text,
					Properties: []crossfade.Property{{Name: "id", Value: text}},
				}, timeout)
				if err == nil && (receipt.Revision != uint64(step+1) || receipt.MessageID == "") {
					err = fmt.Errorf("message %d has the receipt %+v", id, receipt)
				}
				lock.Lock()
				to[receipt.Side]++
				errs = append(errs, err)
				lock.Unlock()
			}
		}(sender)
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	stage := steps[step].stage
	fmt.Printf("%-11s source %3d  target %3d\n", steps[step].name, to[crossfade.Source], to[crossfade.Target])
	if (to[crossfade.Source] > 0) != (stage <= crossfade.DualWrite) || (to[crossfade.Target] > 0) != (stage >= crossfade.DualWrite) {
		return fmt.Errorf("in %s the sides got %v", steps[step].name, to)
	}
	return nil
}

// ledger counts what was handled.
type ledger struct {
	consumer *crossfade.Consumer
	acks     map[int]int
	nacked   map[int]bool
}

// until handles until so many messages are acked; every 20th is nacked first.
func (l *ledger) until(goal int) error {
	for deadline := time.Now().Add(30 * time.Second); len(l.acks) < goal; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d messages within 30 s", len(l.acks), goal)
		}
		deliveries, err := l.consumer.Receive(16, 500*time.Millisecond)
		if err != nil {
			return err
		}
		for _, delivery := range deliveries {
			if err := l.handle(delivery); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *ledger) handle(delivery *crossfade.Delivery) error {
	id, err := strconv.Atoi(string(delivery.Body))
	if err != nil {
		return err
	}
	if len(delivery.Properties) != 1 || delivery.Properties[0].Value != delivery.Key || delivery.IdempotencyKey == "" {
		return fmt.Errorf("message %d came as %+v", id, delivery)
	}
	if id%20 == 0 && !l.nacked[id] {
		l.nacked[id] = true
		return l.consumer.Nack(delivery, 0, timeout)
	}
	if l.nacked[id] && delivery.Attempt < 2 {
		return fmt.Errorf("message %d was nacked and came again as a first attempt", id)
	}
	l.acks[id]++
	return l.consumer.Ack(delivery, timeout)
}

// awaitStage waits until the client follows; nothing is owed meanwhile, so nothing may come.
func (l *ledger) awaitStage(client *crossfade.Client, step int) error {
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); {
		stage, err := client.Stage(topic)
		if err != nil {
			return err
		}
		if stage.Revision == uint64(step+1) {
			if stage.Stage != steps[step].stage || stage.WeightBasisPoints != steps[step].weight {
				return fmt.Errorf("revision %d came as %+v", stage.Revision, stage)
			}
			return nil
		}
		deliveries, err := l.consumer.Receive(1, 20*time.Millisecond)
		if err != nil {
			return err
		}
		if len(deliveries) > 0 {
			return fmt.Errorf("a message was handled twice: %+v", deliveries[0])
		}
	}
	return fmt.Errorf("the client did not follow to %s within %v", steps[step].name, timeout)
}

func badInput(client *crossfade.Client, producer *crossfade.Producer) error {
	start := func(key, value string) error {
		_, err := crossfade.Start(map[string]string{key: value}, timeout)
		return err
	}
	_, unknown := client.Stage("no such topic")
	return errors.Join(
		expect(crossfade.CodeInvalidConfig, start("no.such.key", "1")),
		expect(crossfade.CodeInvalidConfig, start("source.address", "ftp://a")),
		expect(crossfade.CodeInvalidConfig, start("source.address", "memory://a\x00b")),
		expect(crossfade.CodeStageUnknown, unknown),
		expect(crossfade.CodeInvalidMessage, sending(producer, crossfade.Message{Tag: "\xff"}, timeout)),
		expect(crossfade.CodeInvalidConfig, sending(producer, crossfade.Message{}, -time.Second)),
	)
}

func sending(producer *crossfade.Producer, message crossfade.Message, timeout time.Duration) error {
	_, err := producer.Send(message, timeout)
	return err
}

// expect wants an error with this code, from a call that kept nothing.
func expect(code crossfade.Code, err error) error {
	var got *crossfade.Error
	if !errors.As(err, &got) || got.Code != code || got.Persisted != crossfade.PersistedNo {
		return fmt.Errorf("expected an error with code %d, got %v", code, err)
	}
	return nil
}

// publish writes beside the file, then renames: the file is never half written.
func publish(path string, step int) error {
	text := fmt.Sprintf(
		`{"version":1,"revision":%d,"plans":[{"topic":%q,"stage":%q,"weight_basis_points":%d,"revision":%d,"previous_revision":%d}]}`,
		step+1, topic, steps[step].name, steps[step].weight, step+1, step,
	)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
