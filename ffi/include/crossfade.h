/* The C ABI of Crossfade. Generated from ffi/src: do not edit.
 *
 * Every fallible call returns NULL for success, else an error that the caller frees with crossfade_error_free(). Outputs are written on
 * success only. Handles are freed once, by their _free function, which takes NULL. Strings are UTF-8 and end with NUL. No callbacks.
 * Every blocking call takes timeout_ms. More: ffi/README.md.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

#ifndef CROSSFADE_H
#define CROSSFADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * The most that a timeout or a delay may be, in milliseconds: one day.
 */
#define CROSSFADE_MAX_TIMEOUT_MS 86400000

/**
 * The release this header belongs to.
 */
#define CROSSFADE_VERSION_MAJOR 0

/**
 * The release this header belongs to.
 */
#define CROSSFADE_VERSION_MINOR 1

/**
 * The release this header belongs to.
 */
#define CROSSFADE_VERSION_PATCH 0

/**
 * 0xMMmmpp00, as crossfade_version_number() returns it.
 */
#define CROSSFADE_VERSION_NUMBER (((CROSSFADE_VERSION_MAJOR << 24) | (CROSSFADE_VERSION_MINOR << 16)) | (CROSSFADE_VERSION_PATCH << 8))

/**
 * Changes only when a caller compiled against an older header may break.
 */
#define CROSSFADE_ABI_VERSION 1

/**
 * The most properties of one message.
 */
#define CROSSFADE_MAX_PROPERTIES 1024

/**
 * Room for a message id with its NUL.
 */
#define CROSSFADE_MESSAGE_ID_BYTES 256

/**
 * The most messages of one batch.
 */
#define CROSSFADE_MAX_BATCH 10000

/**
 * Whether the broker kept the message of a failed send.
 *
 */
enum crossfade_persisted
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * It did not: the failure is definite.
   */
  CROSSFADE_PERSISTED_NO = 0,
  /**
   * Nobody can tell: the failure is ambiguous. Send again with the same idempotency key only.
   */
  CROSSFADE_PERSISTED_MAYBE = 1,
  /**
   * It did; something after the storing failed.
   */
  CROSSFADE_PERSISTED_YES = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum crossfade_persisted crossfade_persisted;
#else
typedef int32_t crossfade_persisted;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which of the two clusters.
 *
 */
enum crossfade_side
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Neither, or it is not known.
   */
  CROSSFADE_SIDE_NONE = -1,
  /**
   * The cluster that topics leave.
   */
  CROSSFADE_SIDE_SOURCE = 0,
  /**
   * The cluster that topics move to.
   */
  CROSSFADE_SIDE_TARGET = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum crossfade_side crossfade_side;
#else
typedef int32_t crossfade_side;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Where a topic is.
 *
 */
enum crossfade_stage
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Everything on the source.
   */
  CROSSFADE_STAGE_SOURCE_ONLY = 0,
  /**
   * Writes to the source, reads from both.
   */
  CROSSFADE_STAGE_DUAL_READ = 1,
  /**
   * Each write to one of the two, drawn by weight; reads from both.
   */
  CROSSFADE_STAGE_DUAL_WRITE = 2,
  /**
   * Writes to the target, reads from both.
   */
  CROSSFADE_STAGE_DRAINING = 3,
  /**
   * Everything on the target.
   */
  CROSSFADE_STAGE_TARGET_ONLY = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum crossfade_stage crossfade_stage;
#else
typedef int32_t crossfade_stage;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What went wrong, as a stable number: never reused, never renumbered. 0 success, 1xx this library, 2xx brokers, 3xx the control plane.
 * Expect numbers that this header does not name yet.
 *
 */
enum crossfade_code
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * No error.
   */
  CROSSFADE_OK = 0,
  /**
   * A pointer that must not be NULL is NULL; the message names it.
   */
  CROSSFADE_NULL_PARAMETER = 100,
  /**
   * A bug in this library: it panicked. Nothing is known of what the call did.
   */
  CROSSFADE_PANIC = 101,
  /**
   * A configuration key, a value or an argument that cannot be used.
   */
  CROSSFADE_INVALID_CONFIG = 102,
  /**
   * A message that no broker may be given.
   */
  CROSSFADE_INVALID_MESSAGE = 103,
  /**
   * The producer, the consumer or the client was shut down.
   */
  CROSSFADE_CLOSED = 104,
  /**
   * Header and library differ.
   */
  CROSSFADE_ABI_MISMATCH = 105,
  /**
   * The backend cannot do this.
   */
  CROSSFADE_UNSUPPORTED = 106,
  /**
   * A delivery that this consumer no longer owns: acked before, or its queue went to another member.
   */
  CROSSFADE_STALE_DELIVERY = 107,
  /**
   * A broken invariant or an answer that makes no sense.
   */
  CROSSFADE_UNEXPECTED = 199,
  /**
   * No answer in time.
   */
  CROSSFADE_TIMEOUT = 200,
  /**
   * The cluster cannot be reached.
   */
  CROSSFADE_UNAVAILABLE = 201,
  /**
   * The broker is busy.
   */
  CROSSFADE_THROTTLED = 202,
  /**
   * A topic, group or broker that does not exist.
   */
  CROSSFADE_NOT_FOUND = 203,
  /**
   * Wrong credentials, or none, or not enough rights.
   */
  CROSSFADE_PERMISSION_DENIED = 204,
  /**
   * The topic takes no sends on this side.
   */
  CROSSFADE_SEALED = 205,
  /**
   * No plan is known for the topic.
   */
  CROSSFADE_STAGE_UNKNOWN = 300,
  /**
   * The lease is over and the lease mode is `stop`.
   */
  CROSSFADE_LEASE_OVER = 301,
  /**
   * A newer process runs under this instance name.
   */
  CROSSFADE_SUPERSEDED = 302,
  /**
   * A plan that breaks a rule.
   */
  CROSSFADE_INVALID_PLAN = 303,
  /**
   * A stage change that the stage table does not have.
   */
  CROSSFADE_ILLEGAL_TRANSITION = 304,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum crossfade_code crossfade_code;
#else
typedef int32_t crossfade_code;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Messages of one receive. Owned by the caller; freed with crossfade_batch_free(), before or after its consumer. Freeing it acks nothing.
 *
 * Thread safety: immutable, any thread may read it.
 */
typedef struct crossfade_batch crossfade_batch;

/**
 * One instance of the application: its registration, its plans, its connections, its two threads. Owned by the caller; shut it down,
 * then free it with crossfade_client_free().
 *
 * Thread safety: every function may be called from any thread at any time; only crossfade_client_free() must be the last one.
 * It does not survive fork(): start it in the child.
 */
typedef struct crossfade_client crossfade_client;

/**
 * A configuration on its way to crossfade_client_start(). Owned by the caller; freed with crossfade_config_free().
 *
 * Thread safety: one thread at a time.
 */
typedef struct crossfade_config crossfade_config;

/**
 * Receives one topic for one group. Owned by the caller; freed with crossfade_consumer_free(), before or after its client.
 *
 * Thread safety: every function may be called from any thread at any time, receive included; only crossfade_consumer_free() must be
 * the last one.
 */
typedef struct crossfade_consumer crossfade_consumer;

/**
 * An error. Owned by the caller of the function that returned it; freed with crossfade_error_free().
 *
 * Thread safety: immutable, any thread may read and free it. It needs no other handle to be alive.
 */
typedef struct crossfade_error crossfade_error;

/**
 * Sends to one topic. Owned by the caller; freed with crossfade_producer_free(), before or after its client.
 *
 * Thread safety: every function may be called from any thread at any time; only crossfade_producer_free() must be the last one.
 */
typedef struct crossfade_producer crossfade_producer;

/**
 * A topic's plan, as this client has it now. Zero it and set struct_size = sizeof.
 */
typedef struct {
  /**
   * sizeof(crossfade_topic_stage), set by the caller.
   */
  uint32_t struct_size;
  /**
   * Where the topic is.
   */
  crossfade_stage stage;
  /**
   * The target's share of writes, 0 to 10000; it counts in CROSSFADE_STAGE_DUAL_WRITE only.
   */
  uint32_t weight_basis_points;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Grows with every change.
   */
  uint64_t revision;
} crossfade_topic_stage;

/**
 * Borrowed bytes: not NUL-terminated. As an output: valid as long as the object they came from. As an input: read before the call
 * returns. All zero (data NULL, len 0): absent.
 */
typedef struct {
  /**
   * The first byte.
   */
  const uint8_t *data;
  /**
   * How many.
   */
  size_t len;
} crossfade_bytes;

/**
 * A property of a message; both are UTF-8.
 */
typedef struct {
  /**
   * Not empty.
   */
  crossfade_bytes name;
  /**
   * May be empty.
   */
  crossfade_bytes value;
} crossfade_property;

/**
 * What to send. Zero it, set struct_size = sizeof, fill what is needed. Texts are UTF-8; everything is copied before a call returns.
 */
typedef struct {
  /**
   * sizeof(crossfade_message), set by the caller.
   */
  uint32_t struct_size;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * The payload; opaque.
   */
  crossfade_bytes body;
  /**
   * The application's own key, to find the message by. May be absent.
   */
  crossfade_bytes key;
  /**
   * The tag that subscriptions filter by. May be absent.
   */
  crossfade_bytes tag;
  /**
   * Messages with the same one go to the same side and queue. May be absent.
   */
  crossfade_bytes ordering_key;
  /**
   * Same key = same message, on either side: 1 to 128 bytes without control characters. Absent: made by the library.
   */
  crossfade_bytes idempotency_key;
  /**
   * properties_len of them; may be NULL when that is 0.
   */
  const crossfade_property *properties;
  /**
   * 0 to CROSSFADE_MAX_PROPERTIES.
   */
  size_t properties_len;
  /**
   * Delivered no sooner than this after the send, in milliseconds; 0: at once.
   */
  int64_t deliver_after_ms;
} crossfade_message;

/**
 * Proof that one side has stored a message. Zero it and set struct_size = sizeof.
 */
typedef struct {
  /**
   * sizeof(crossfade_receipt), set by the caller.
   */
  uint32_t struct_size;
  /**
   * The side that stored it.
   */
  crossfade_side side;
  /**
   * The plan's revision under which it was routed.
   */
  uint64_t revision;
  /**
   * The broker's own id: UTF-8, NUL-terminated, cut where it is longer.
   */
  char message_id[CROSSFADE_MESSAGE_ID_BYTES];
} crossfade_receipt;

/**
 * A message to be acked or nacked. Zero it and set struct_size = sizeof. Its bytes belong to the batch and live as long.
 */
typedef struct {
  /**
   * sizeof(crossfade_delivery), set by the caller.
   */
  uint32_t struct_size;
  /**
   * The side it came from.
   */
  crossfade_side side;
  /**
   * 1 for the first delivery to the group, one more after each failed one.
   */
  uint32_t attempt;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * The plan's revision under which it was routed; 0 from a producer that does not use this library.
   */
  uint64_t revision;
  /**
   * The broker's own id.
   */
  crossfade_bytes message_id;
  /**
   * Same key = same message, on either side. Always there.
   */
  crossfade_bytes idempotency_key;
  /**
   * The payload.
   */
  crossfade_bytes body;
  /**
   * The application's own key. May be absent.
   */
  crossfade_bytes key;
  /**
   * The tag. May be absent.
   */
  crossfade_bytes tag;
  /**
   * properties_len of them; the names are not sorted.
   */
  const crossfade_property *properties;
  /**
   * 0 and more.
   */
  size_t properties_len;
} crossfade_delivery;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The library's version as 0xMMmmpp00; compare with CROSSFADE_VERSION_NUMBER of the header.
 *
 * Does not block. Thread-safe.
 */
uint32_t crossfade_version_number(void);

/**
 * The library's version, "major.minor.patch". Static: never freed.
 *
 * Does not block. Thread-safe.
 */
const char *crossfade_version(void);

/**
 * Call it first, with CROSSFADE_ABI_VERSION: CROSSFADE_ABI_MISMATCH when header and library do not fit together.
 *
 * Does not block. Thread-safe.
 */
crossfade_error *crossfade_check_abi(uint32_t abi_version);

/**
 * The error's number, one of crossfade_code or a newer one; 0 (CROSSFADE_OK) for NULL.
 *
 * Does not block. Thread-safe.
 */
int32_t crossfade_error_code(const crossfade_error *error);

/**
 * What went wrong, where, and what to do: UTF-8, NUL-terminated; "" for NULL. Not for programs to compare: use the number.
 *
 * The text belongs to the error and is valid until crossfade_error_free(). Does not block. Thread-safe.
 */
const char *crossfade_error_message(const crossfade_error *error);

/**
 * Whether the same call can succeed later; false for NULL.
 *
 * Does not block. Thread-safe.
 */
bool crossfade_error_is_retriable(const crossfade_error *error);

/**
 * Whether the handle is of no further use (it was closed, or a newer process took its instance name): free it. False for NULL.
 *
 * Does not block. Thread-safe.
 */
bool crossfade_error_is_fatal(const crossfade_error *error);

/**
 * Whether the broker kept the message of a failed send; CROSSFADE_PERSISTED_NO for NULL and for calls that send nothing.
 *
 * Does not block. Thread-safe.
 */
crossfade_persisted crossfade_error_persisted(const crossfade_error *error);

/**
 * The side it happened on; CROSSFADE_SIDE_NONE for NULL and where there is none.
 *
 * Does not block. Thread-safe.
 */
crossfade_side crossfade_error_side(const crossfade_error *error);

/**
 * Frees an error; NULL is allowed.
 *
 * Does not block. From any thread, once.
 */
void crossfade_error_free(crossfade_error *error);

/**
 * An empty configuration: every key has its default. Never NULL, except after a panic inside.
 *
 * The caller owns it. Does not block. Thread-safe.
 */
crossfade_config *crossfade_config_new(void);

/**
 * Sets one key of CONFIGURATION.md ("control.url", "source.address", ...); a later value replaces an earlier one. Both strings are copied.
 *
 * CROSSFADE_INVALID_CONFIG for an unknown key or a value out of its range, named in the message; the configuration is as before.
 * Does not block. The configuration must not be in use by another thread.
 */
crossfade_error *crossfade_config_set(crossfade_config *config,
                                      const char *key,
                                      const char *value);

/**
 * Reads a file of `key = value` lines (# begins a comment) and sets each key. The path is UTF-8.
 *
 * CROSSFADE_INVALID_CONFIG names file, line and key; the configuration is as before. Blocks for as long as the file system does.
 * The configuration must not be in use by another thread.
 */
crossfade_error *crossfade_config_load_file(crossfade_config *config,
                                            const char *path);

/**
 * Frees a configuration; NULL is allowed. Clients started from it are not affected.
 *
 * Does not block. From any thread, once.
 */
void crossfade_config_free(crossfade_config *config);

/**
 * Registers the instance and loads its plans. Reads `config`, which stays the caller's.
 *
 * `*client_out` is written on success only; the caller owns it. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS).
 * The configuration must not be in use by another thread.
 */
crossfade_error *crossfade_client_start(const crossfade_config *config,
                                        int64_t timeout_ms,
                                        crossfade_client **client_out);

/**
 * Where a topic is, as far as this client knows: CROSSFADE_STAGE_UNKNOWN before a producer or consumer of the topic exists, or without a
 * plan for it.
 *
 * Does not block. Thread-safe. `*stage_out` is written on success only.
 */
crossfade_error *crossfade_client_stage(const crossfade_client *client,
                                        const char *topic,
                                        crossfade_topic_stage *stage_out);

/**
 * Ends the instance in order: consumers stop and commit, sends under way end, the registration is taken back. All calls on its
 * producers and consumers fail with CROSSFADE_CLOSED from then on. The handle must still be freed. A second call is no error.
 *
 * Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
 * CROSSFADE_TIMEOUT when something was left undone: what was not acked is delivered again to others.
 */
crossfade_error *crossfade_client_shutdown(crossfade_client *client,
                                           int64_t timeout_ms);

/**
 * Frees a client; NULL is allowed. Without crossfade_client_shutdown() before it, this is what a crash is: tasks end at once, nothing is
 * committed, nobody is told. Its producers and consumers fail with CROSSFADE_CLOSED from then on and must still be freed.
 *
 * Does not wait for anything. From any thread, once; calls on the client itself must have returned.
 */
void crossfade_client_free(crossfade_client *client);

/**
 * Makes a producer and waits until a plan for its topic is here.
 *
 * `*producer_out` is written on success only; the caller owns it. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS).
 * Thread-safe.
 */
crossfade_error *crossfade_producer_new(crossfade_client *client,
                                        const char *topic,
                                        int64_t timeout_ms,
                                        crossfade_producer **producer_out);

/**
 * Sends a message once, to one side, and returns when its broker has stored it.
 *
 * `message` is read before the call returns and stays the caller's. `receipt_out` may be NULL; it is written on success only. Blocks for
 * at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS) and for no longer than the configured send timeout. Thread-safe.
 * After an error ask crossfade_error_persisted() before sending again; with CROSSFADE_PERSISTED_MAYBE use the same idempotency key.
 */
crossfade_error *crossfade_producer_send(crossfade_producer *producer,
                                         const crossfade_message *message,
                                         int64_t timeout_ms,
                                         crossfade_receipt *receipt_out);

/**
 * Refuses new sends and waits until those under way have ended. The handle must still be freed.
 *
 * Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
 */
crossfade_error *crossfade_producer_close(crossfade_producer *producer, int64_t timeout_ms);

/**
 * Frees a producer; NULL is allowed.
 *
 * Does not wait for anything. From any thread, once; calls on it must have returned.
 */
void crossfade_producer_free(crossfade_producer *producer);

/**
 * Joins a group and waits until a plan for the topic is here. `tags`: only messages with one of these, separated by "||"; NULL for all.
 *
 * `*consumer_out` is written on success only; the caller owns it. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS).
 * Thread-safe.
 */
crossfade_error *crossfade_consumer_new(crossfade_client *client,
                                        const char *topic,
                                        const char *group,
                                        const char *tags,
                                        int64_t timeout_ms,
                                        crossfade_consumer **consumer_out);

/**
 * At most `max` (1 to CROSSFADE_MAX_BATCH) messages from both sides in turn, as soon as there is one. Each is to be acked or nacked.
 *
 * `*batch_out` is written on success only: NULL when nothing came within timeout_ms, else a batch that the caller owns.
 * Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
 */
crossfade_error *crossfade_consumer_receive(crossfade_consumer *consumer,
                                            size_t max,
                                            int64_t timeout_ms,
                                            crossfade_batch **batch_out);

/**
 * How many messages a batch has; 0 for NULL.
 *
 * Does not block. Thread-safe.
 */
size_t crossfade_batch_len(const crossfade_batch *batch);

/**
 * One message of a batch; `index` begins with 0.
 *
 * CROSSFADE_INVALID_CONFIG: the batch has no such index. `*delivery_out` is written on success only; its bytes belong to the batch. Does not block. Thread-safe.
 */
crossfade_error *crossfade_batch_get(const crossfade_batch *batch,
                                     size_t index,
                                     crossfade_delivery *delivery_out);

/**
 * The handler succeeded: the message is done for this group. After a timeout it may or may not be; acking again is safe.
 *
 * CROSSFADE_STALE_DELIVERY: this consumer no longer owns it, and it may be handled again. `consumer` must be the one that received the
 * batch. CROSSFADE_INVALID_CONFIG: the batch has no such index. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
 */
crossfade_error *crossfade_consumer_ack(crossfade_consumer *consumer,
                                        const crossfade_batch *batch,
                                        size_t index,
                                        int64_t timeout_ms);

/**
 * The handler failed: the message comes again after about redeliver_after_ms (0 to CROSSFADE_MAX_TIMEOUT_MS; brokers round it up).
 *
 * CROSSFADE_STALE_DELIVERY: this consumer no longer owns it. `consumer` must be the one that received the batch. CROSSFADE_INVALID_CONFIG:
 * the batch has no such index. Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS). Thread-safe.
 */
crossfade_error *crossfade_consumer_nack(crossfade_consumer *consumer,
                                         const crossfade_batch *batch,
                                         size_t index,
                                         int64_t redeliver_after_ms,
                                         int64_t timeout_ms);

/**
 * Stops receiving, waits for what was handed out to be acked or nacked (from other threads), commits, and leaves the group.
 * The handle must still be freed.
 *
 * Blocks for at most timeout_ms (0 to CROSSFADE_MAX_TIMEOUT_MS); after CROSSFADE_TIMEOUT the closing goes on until the handle is freed.
 * Thread-safe.
 */
crossfade_error *crossfade_consumer_close(crossfade_consumer *consumer,
                                          int64_t timeout_ms);

/**
 * Frees a batch; NULL is allowed. What was not acked or nacked stays outstanding until its consumer ends.
 *
 * Does not block. From any thread, once.
 */
void crossfade_batch_free(crossfade_batch *batch);

/**
 * Frees a consumer; NULL is allowed. Without crossfade_consumer_close() or crossfade_client_shutdown() before it, this is what a crash
 * is: what was handed out and not acked is delivered again to others.
 *
 * Does not wait for anything. From any thread, once; calls on it must have returned.
 */
void crossfade_consumer_free(crossfade_consumer *consumer);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CROSSFADE_H */
