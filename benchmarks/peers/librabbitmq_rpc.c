/* The upper limit: raw RPC in C on librabbitmq, on the default exchange, without acks. The sender waits for any
 * answer and sends the next request. The program has the interface that protocol.py describes. The payload is always
 * the one with a text of 64 bytes. */

#include <amqp.h>
#include <amqp_tcp_socket.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUEUE "librabbitmq"
#define CHANNEL 1
#define MOST 10000 /* requests in flight */

/* {"method": "GET", "text": 64 times "x"} in MessagePack */
#define X16 "xxxxxxxxxxxxxxxx"
static const char PAYLOAD[] = "\x82\xa6method\xa3GET\xa4text\xd9\x40" X16 X16 X16 X16;

static amqp_connection_state_t connection;
static double *took;
static size_t answered, room;

static void fail(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void must(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail(what);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

static void ready(void) {
  puts("ready");
  fflush(stdout);
}

static void open_channel(char *url) {
  struct amqp_connection_info info;
  if (amqp_parse_url(url, &info)) fail("not a valid URL");
  connection = amqp_new_connection();
  if (amqp_socket_open(amqp_tcp_socket_new(connection), info.host, info.port)) fail("cannot connect");
  must(amqp_login(connection, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password), "login");
  amqp_channel_open(connection, CHANNEL);
  must(amqp_get_rpc_reply(connection), "channel.open");
}

static amqp_bytes_t consume(amqp_bytes_t name, int exclusive) {
  amqp_queue_declare_ok_t *queue =
      amqp_queue_declare(connection, CHANNEL, name, 0, 0, exclusive, 1, amqp_empty_table);
  must(amqp_get_rpc_reply(connection), "queue.declare");
  amqp_bytes_t declared = amqp_bytes_malloc_dup(queue->queue);
  amqp_basic_consume(connection, CHANNEL, declared, amqp_empty_bytes, 0, 1, 0, amqp_empty_table);
  must(amqp_get_rpc_reply(connection), "basic.consume");
  return declared;
}

static void publish(amqp_bytes_t queue, amqp_basic_properties_t *properties, amqp_bytes_t body) {
  if (amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, queue, 0, 0, properties, body)) fail("basic.publish");
}

static void receive(amqp_envelope_t *envelope) {
  amqp_maybe_release_buffers(connection);
  must(amqp_consume_message(connection, envelope, NULL, 0), "basic.deliver");
}

static void work(void) {
  amqp_envelope_t request;
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_CORRELATION_ID_FLAG};
  consume(amqp_cstring_bytes(QUEUE), 0);
  ready();
  for (;;) {
    receive(&request);
    properties.correlation_id = request.message.properties.correlation_id;
    publish(request.message.properties.reply_to, &properties, request.message.body);
    amqp_destroy_envelope(&request);
  }
}

static void ask(amqp_bytes_t answers, int number) {
  char text[16];
  snprintf(text, sizeof text, "%d", number);
  amqp_basic_properties_t properties = {
      ._flags = AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG,
      .correlation_id = amqp_cstring_bytes(text),
      .reply_to = answers,
  };
  amqp_bytes_t body = {.len = sizeof PAYLOAD - 1, .bytes = (void *)PAYLOAD};
  publish(amqp_cstring_bytes(QUEUE), &properties, body);
}

static int answer(void) {
  amqp_envelope_t message;
  char text[16] = "";
  receive(&message);
  amqp_bytes_t id = message.message.properties.correlation_id;
  if (id.len >= sizeof text || message.message.body.len != sizeof PAYLOAD - 1) fail("the answer is not the request");
  memcpy(text, id.bytes, id.len);
  amqp_destroy_envelope(&message);
  return atoi(text);
}

static void remember(double seconds) {
  if (answered == room) {
    room = room ? 2 * room : 65536;
    took = realloc(took, room * sizeof *took);
    if (!took) fail("no memory");
  }
  took[answered++] = seconds;
}

static int by_size(const void *one, const void *other) {
  double a = *(const double *)one, b = *(const double *)other;
  return (a > b) - (a < b);
}

static void measure(amqp_bytes_t answers, int in_flight, double seconds) {
  static double sent[MOST];
  double began = now(), time = began;
  answered = 0;
  for (int number = 0; number < in_flight; number++) {
    sent[number] = now();
    ask(answers, number);
  }
  for (int pending = in_flight; pending; pending--) {
    int number = answer();
    time = now();
    remember(time - sent[number]);
    if (time < began + seconds) {
      sent[number] = now();
      ask(answers, number);
      pending++;
    }
  }
  qsort(took, answered, sizeof *took, by_size);
  printf("{\"jobs\": %zu, \"seconds\": %f, \"p50_ms\": %f, \"p99_ms\": %f}\n", answered, time - began,
         took[answered * 50 / 100] * 1000, took[answered * 99 / 100] * 1000);
  fflush(stdout);
}

static void send_requests(void) {
  int in_flight, size;
  double seconds;
  amqp_bytes_t answers = consume(amqp_empty_bytes, 1);
  ask(answers, 0);
  answer();
  ready();
  while (scanf("%d %lf %d", &in_flight, &seconds, &size) == 3) {
    if (in_flight < 1 || in_flight > MOST) fail("too many requests in flight");
    measure(answers, in_flight, seconds);
  }
}

int main(int count, char **arguments) {
  if (count != 3) fail("usage: librabbitmq_rpc work|send URL");
  open_channel(arguments[2]);
  strcmp(arguments[1], "work") ? send_requests() : work();
  return 0;
}
