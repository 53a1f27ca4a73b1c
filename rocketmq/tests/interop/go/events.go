package main

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// events prints what happens on one cluster as JSON lines.
type events struct{ cluster string }

var printing sync.Mutex

// sent: a message is stored; of a batch the answer has no queue and place of each.
func (e events) sent(message *primitive.Message, result *primitive.SendResult) {
	e.print("sent", message, map[string]any{
		"message_id": result.MsgID,
		"queue":      result.MessageQueue.QueueId,
		"offset":     result.QueueOffset,
	})
}

// handled: a reader's handler has a message; reader is "concurrent" or "ordered".
func (e events) handled(reader string, message *primitive.MessageExt) {
	e.print("handled", &message.Message, map[string]any{
		"reader":     reader,
		"message_id": message.MsgId,
		"attempt":    message.ReconsumeTimes + 1,
		"queue":      message.Queue.QueueId,
		"offset":     message.QueueOffset,
	})
}

// checked: the broker asked for the end of a transaction.
func (e events) checked(message *primitive.MessageExt) {
	e.print("checked", &message.Message, map[string]any{"message_id": message.MsgId})
}

func (e events) print(event string, message *primitive.Message, more map[string]any) {
	more["cluster"] = e.cluster
	more["event"] = event
	more["topic"] = message.Topic
	more["body_bytes"] = len(message.Body)
	more["body_crc32"] = crc32.ChecksumIEEE(message.Body)
	more["at_ms"] = time.Now().UnixMilli()
	more["properties"] = message.GetProperties()
	line, err := json.Marshal(more)
	if err != nil {
		panic(err)
	}
	printing.Lock()
	defer printing.Unlock()
	fmt.Fprintf(os.Stdout, "%s\n", line)
}
