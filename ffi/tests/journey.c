/* A topic's journey through all stages, with a rollback on the way, on two embedded clusters of this process.
 *
 * The plan file stands in for the control plane: every message that was sent is acked exactly once, whatever the stage.
 * usage: journey DIRECTORY   (for the plan file; exits 0 only when everything held) */
#include "crossfade.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOPIC "orders"
#define GROUP "billing"
#define PER_STAGE 60
#define STAGES 7
#define MESSAGES (PER_STAGE * STAGES)
#define TIMEOUT_MS 10000

struct step {
  crossfade_stage stage;
  const char *name;
  uint32_t weight;
};

static const struct step STEPS[STAGES] = {
  {CROSSFADE_STAGE_SOURCE_ONLY, "source_only", 0}, {CROSSFADE_STAGE_DUAL_READ, "dual_read", 0},
  {CROSSFADE_STAGE_DUAL_WRITE, "dual_write", 5000}, {CROSSFADE_STAGE_DUAL_READ, "dual_read", 0}, /* the rollback */
  {CROSSFADE_STAGE_DUAL_WRITE, "dual_write", 5000}, {CROSSFADE_STAGE_DRAINING, "draining", 0},
  {CROSSFADE_STAGE_TARGET_ONLY, "target_only", 0},
};

static int acks[MESSAGES];
static int nacked[MESSAGES];

static void fail(const char *what) {
  fprintf(stderr, "journey: %s\n", what);
  exit(1);
}

static void require(bool holds, const char *what) {
  if (!holds) {
    fail(what);
  }
}

/* Ends the program unless the call succeeded. */
static void must(crossfade_error *error, const char *call) {
  if (error != NULL) {
    fprintf(stderr, "journey: %s: %s (code %" PRId32 ")\n", call, crossfade_error_message(error), crossfade_error_code(error));
    crossfade_error_free(error);
    exit(1);
  }
}

/* Ends the program unless the call failed with this code. */
static void must_fail(crossfade_error *error, int32_t code, const char *call) {
  if (crossfade_error_code(error) != code) {
    fprintf(stderr, "journey: %s: expected code %" PRId32 ", got %" PRId32 ": %s\n", call, code, crossfade_error_code(error),
            crossfade_error_message(error));
    exit(1);
  }
  require(strlen(crossfade_error_message(error)) > 0, "an error without a message");
  require(crossfade_error_persisted(error) == CROSSFADE_PERSISTED_NO, "a call that sent nothing says it may have");
  crossfade_error_free(error);
}

/* Beside it first, then renamed: the file is never half written. */
static void publish(const char *path, const struct step *step, uint64_t revision) {
  char beside[1100];
  snprintf(beside, sizeof beside, "%s.new", path);
  FILE *file = fopen(beside, "w");
  require(file != NULL, "the plan file cannot be written");
  fprintf(file,
          "{\"version\":1,\"revision\":%" PRIu64 ",\"plans\":[{\"topic\":\"" TOPIC "\",\"stage\":\"%s\","
          "\"weight_basis_points\":%" PRIu32 ",\"revision\":%" PRIu64 ",\"previous_revision\":%" PRIu64 "}]}\n",
          revision, step->name, step->weight, revision, revision - 1);
  require(fclose(file) == 0 && rename(beside, path) == 0, "the plan file cannot be replaced");
}

static crossfade_bytes bytes(const char *text) {
  crossfade_bytes result = {(const uint8_t *)text, strlen(text)};
  return result;
}

static void send_one(crossfade_producer *producer, int id, crossfade_receipt *receipt) {
  char text[32];
  snprintf(text, sizeof text, "%d", id);
  crossfade_property property = {bytes("id"), bytes(text)};
  crossfade_message message;
  memset(&message, 0, sizeof message);
  message.struct_size = sizeof message;
  message.body = bytes(text);
  message.key = bytes(text);
  message.tag = bytes("new");
  message.properties = &property;
  message.properties_len = 1;
  memset(receipt, 0, sizeof *receipt);
  receipt->struct_size = sizeof *receipt;
  must(crossfade_producer_send(producer, &message, TIMEOUT_MS, receipt), "send");
  require(receipt->message_id[0] != '\0', "a receipt without a message id");
}

static int id_of(const crossfade_delivery *delivery) {
  char text[32] = {0};
  require(delivery->body.len > 0 && delivery->body.len < sizeof text, "a body of another length");
  memcpy(text, delivery->body.data, delivery->body.len);
  int id = atoi(text);
  require(id >= 0 && id < MESSAGES, "a message that was never sent");
  require(delivery->properties_len == 1 && delivery->properties[0].value.len == delivery->body.len
              && memcmp(delivery->properties[0].value.data, text, delivery->body.len) == 0,
          "a property is not what was sent");
  require(delivery->idempotency_key.len > 0, "a delivery without an idempotency key");
  return id;
}

/* Handles until `goal` ids are acked; every 20th is nacked first. */
static void handle(crossfade_consumer *consumer, int *done, int goal) {
  int idle = 0;
  while (*done < goal) {
    crossfade_batch *batch = NULL;
    must(crossfade_consumer_receive(consumer, 16, 500, &batch), "receive");
    idle = batch == NULL ? idle + 1 : 0;
    if (idle == 60) {
      fprintf(stderr, "journey: %d of %d messages after 30 s without one\n", *done, goal);
      exit(1);
    }
    for (size_t index = 0; index < crossfade_batch_len(batch); index++) {
      crossfade_delivery delivery;
      memset(&delivery, 0, sizeof delivery);
      delivery.struct_size = sizeof delivery;
      must(crossfade_batch_get(batch, index, &delivery), "batch_get");
      int id = id_of(&delivery);
      if (id % 20 == 0 && !nacked[id]) {
        nacked[id] = 1;
        must(crossfade_consumer_nack(consumer, batch, index, 0, TIMEOUT_MS), "nack");
        continue;
      }
      require(!nacked[id] || delivery.attempt > 1, "a nacked message came again as a first attempt");
      must(crossfade_consumer_ack(consumer, batch, index, TIMEOUT_MS), "ack");
      acks[id]++;
      (*done)++;
      if (id == 1) {
        must_fail(crossfade_consumer_ack(consumer, batch, index, TIMEOUT_MS), CROSSFADE_STALE_DELIVERY, "a second ack");
      }
    }
    if (batch != NULL) {
      crossfade_delivery delivery = {.struct_size = sizeof delivery};
      must_fail(crossfade_batch_get(batch, crossfade_batch_len(batch), &delivery), CROSSFADE_INVALID_CONFIG, "an index too large");
      delivery.struct_size = 1;
      must_fail(crossfade_batch_get(batch, 0, &delivery), CROSSFADE_ABI_MISMATCH, "a struct without its size");
    }
    crossfade_batch_free(batch);
  }
}

static void await_stage(crossfade_client *client, crossfade_consumer *consumer, const struct step *step, uint64_t revision) {
  for (int attempt = 0; attempt < 200; attempt++) {
    crossfade_topic_stage stage = {.struct_size = sizeof stage};
    must(crossfade_client_stage(client, TOPIC, &stage), "stage");
    if (stage.revision == revision) {
      require(stage.stage == step->stage, "the stage is another one");
      require(stage.weight_basis_points == step->weight, "the weight is another one");
      return;
    }
    /* Nothing is owed now: it waits, and that is all. */
    crossfade_batch *batch = NULL;
    must(crossfade_consumer_receive(consumer, 1, 50, &batch), "receive");
    require(batch == NULL, "a message was handled twice");
  }
  fail("the client did not follow the stage within 10 s");
}

static void check_bad_input(crossfade_config *config, crossfade_client *client, crossfade_producer *producer, crossfade_consumer *consumer) {
  must_fail(crossfade_config_set(config, "no.such.key", "1"), CROSSFADE_INVALID_CONFIG, "an unknown key");
  must_fail(crossfade_config_set(config, NULL, "1"), CROSSFADE_NULL_PARAMETER, "a key that is NULL");
  must_fail(crossfade_config_set(NULL, "source.address", "memory://a"), CROSSFADE_NULL_PARAMETER, "a config that is NULL");
  must_fail(crossfade_config_set(config, "source.address", "\xff"), CROSSFADE_INVALID_CONFIG, "a value that is not UTF-8");
  must_fail(crossfade_config_set(config, "source.address", "ftp://a"), CROSSFADE_INVALID_CONFIG, "an address of no backend");
  must_fail(crossfade_config_load_file(config, "/no/such/file"), CROSSFADE_INVALID_CONFIG, "a file that is not there");
  must_fail(crossfade_check_abi(CROSSFADE_ABI_VERSION + 1), CROSSFADE_ABI_MISMATCH, "another ABI version");
  must_fail(crossfade_client_start(config, TIMEOUT_MS, NULL), CROSSFADE_NULL_PARAMETER, "an output that is NULL");
  crossfade_topic_stage stage = {.struct_size = sizeof stage};
  must_fail(crossfade_client_stage(client, "no such topic", &stage), CROSSFADE_STAGE_UNKNOWN, "the stage of an unknown topic");
  must_fail(crossfade_producer_send(producer, NULL, TIMEOUT_MS, NULL), CROSSFADE_NULL_PARAMETER, "a message that is NULL");
  crossfade_message message;
  memset(&message, 0, sizeof message);
  must_fail(crossfade_producer_send(producer, &message, TIMEOUT_MS, NULL), CROSSFADE_ABI_MISMATCH, "a message without its size");
  message.struct_size = sizeof message;
  must_fail(crossfade_producer_send(producer, &message, -1, NULL), CROSSFADE_INVALID_CONFIG, "a negative timeout");
  message.tag = bytes("\xff");
  must_fail(crossfade_producer_send(producer, &message, TIMEOUT_MS, NULL), CROSSFADE_INVALID_MESSAGE, "a tag that is not UTF-8");
  crossfade_batch *batch = NULL;
  must_fail(crossfade_consumer_receive(consumer, 0, 0, &batch), CROSSFADE_INVALID_CONFIG, "a batch of none");
  require(batch == NULL, "an output was written by a call that failed");
}

int main(int argc, char **argv) {
  require(argc == 2 && strlen(argv[1]) < 1000, "usage: journey DIRECTORY");
  must(crossfade_check_abi(CROSSFADE_ABI_VERSION), "check_abi");
  require(crossfade_version_number() == CROSSFADE_VERSION_NUMBER, "header and library are of different releases");
  char path[1024];
  snprintf(path, sizeof path, "%s/plans.json", argv[1]);
  publish(path, &STEPS[0], 1);

  crossfade_config *config = crossfade_config_new();
  must(crossfade_config_set(config, "instance.name", "journey-c"), "set instance.name");
  must(crossfade_config_set(config, "source.address", "memory://c-source?auto_create=true"), "set source.address");
  must(crossfade_config_set(config, "target.address", "memory://c-target?auto_create=true"), "set target.address");
  must(crossfade_config_set(config, "plan.file", path), "set plan.file");
  must(crossfade_config_set(config, "plan.every_ms", "20"), "set plan.every_ms");
  crossfade_client *client = NULL;
  must(crossfade_client_start(config, TIMEOUT_MS, &client), "client_start");
  crossfade_producer *producer = NULL;
  must(crossfade_producer_new(client, TOPIC, TIMEOUT_MS, &producer), "producer_new");
  crossfade_consumer *consumer = NULL;
  must(crossfade_consumer_new(client, TOPIC, GROUP, NULL, TIMEOUT_MS, &consumer), "consumer_new");
  check_bad_input(config, client, producer, consumer);
  crossfade_config_free(config);

  int sent = 0, done = 0;
  for (uint64_t step = 0; step < STAGES; step++) {
    uint64_t revision = step + 1;
    if (step > 0) {
      publish(path, &STEPS[step], revision);
      await_stage(client, consumer, &STEPS[step], revision);
    }
    int to[2] = {0, 0};
    for (int count = 0; count < PER_STAGE; count++) {
      crossfade_receipt receipt;
      send_one(producer, sent++, &receipt);
      require(receipt.side == CROSSFADE_SIDE_SOURCE || receipt.side == CROSSFADE_SIDE_TARGET, "a receipt without a side");
      require(receipt.revision == revision, "a message was routed under another plan");
      to[receipt.side]++;
    }
    bool both = STEPS[step].stage == CROSSFADE_STAGE_DUAL_WRITE;
    bool late = STEPS[step].stage >= CROSSFADE_STAGE_DRAINING;
    require((to[CROSSFADE_SIDE_SOURCE] > 0) == (both || !late), "the source was written to against the stage");
    require((to[CROSSFADE_SIDE_TARGET] > 0) == (both || late), "the target was written to against the stage");
    handle(consumer, &done, sent);
    printf("%-11s source %3d  target %3d  acked %d\n", STEPS[step].name, to[0], to[1], done);
  }
  for (int id = 0; id < MESSAGES; id++) {
    require(acks[id] == 1, "a message was not handled exactly once");
  }
  must(crossfade_client_shutdown(client, TIMEOUT_MS), "shutdown");
  must(crossfade_client_shutdown(client, TIMEOUT_MS), "a second shutdown");
  crossfade_receipt receipt = {.struct_size = sizeof receipt};
  crossfade_message message = {.struct_size = sizeof message};
  must_fail(crossfade_producer_send(producer, &message, TIMEOUT_MS, &receipt), CROSSFADE_CLOSED, "a send after shutdown");
  crossfade_client_free(client);
  crossfade_consumer_free(consumer);
  crossfade_producer_free(producer);
  crossfade_client_free(NULL);
  crossfade_batch_free(NULL);
  printf("%d messages, each handled once\n", MESSAGES);
  return 0;
}
