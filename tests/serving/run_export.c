/* Answers for image files with an exported tree through TensorFlow's C API, as TF Serving loads it:
 * a session on the graph, no Python, no code of this project.
 *
 *     run_export EXPORT SIGNATURE FILE...
 *
 * prints a line a file: 1 or 0 (ok), the label, the four probabilities; and of a calibrated export 1 or 0 (unsure), and
 * 1 or 0 for each of the four classes (set); and of an export that knows its training images the distance, last.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(2);
}

static void check(const TF_Status *status, const char *what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

/* A piece of a protocol buffer in its wire form. */
typedef struct {
  const uint8_t *at, *end;
} Span;

static uint64_t varint(Span *span) {
  uint64_t value = 0;
  for (int shift = 0; span->at < span->end && shift < 64; shift += 7) {
    uint8_t byte = *span->at++;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return value;
  }
  fail("MetaGraphDef", "cut short");
  return 0;
}

/* Take the next field of a message; *inner is its content where that is a string or a message. */
static int next_field(Span *message, Span *inner) {
  if (message->at >= message->end) return 0;
  uint64_t key = varint(message);
  uint64_t size;
  *inner = (Span){NULL, NULL};
  switch (key & 7) {
    case 0: varint(message); return (int)(key >> 3);
    case 1: size = 8; break;
    case 2: size = varint(message); break;
    case 5: size = 4; break;
    default: fail("MetaGraphDef", "an unknown wire type"); return 0;
  }
  if (size > (uint64_t)(message->end - message->at)) fail("MetaGraphDef", "cut short");
  *inner = (Span){message->at, message->at + size};
  message->at += size;
  return (int)(key >> 3);
}

/* Find the value that a map field (number `field` of `message`) holds for `key`; return whether there is one. */
static int find_value(Span message, int field, const char *key, Span *found) {
  Span entry, part;
  int number;
  while ((number = next_field(&message, &entry))) {
    if (number != field) continue;
    Span name = {NULL, NULL}, value = {NULL, NULL};
    while ((number = next_field(&entry, &part))) {
      if (number == 1) name = part;
      if (number == 2) value = part;
    }
    if ((size_t)(name.end - name.at) == strlen(key) && !memcmp(name.at, key, strlen(key))) {
      *found = value;
      return 1;
    }
  }
  return 0;
}

/* Return the value that a map field holds for `key`, which must be there. */
static Span map_value(Span message, int field, const char *key) {
  Span found = {NULL, NULL};
  if (!find_value(message, field, key, &found)) fail(key, "is not in the signature");
  return found;
}

/* Find a tensor that a signature names: TensorInfo.name is "operation:index". */
static TF_Output tensor_of(TF_Graph *graph, Span signature, int field, const char *key) {
  Span info = map_value(signature, field, key), name;
  while (next_field(&info, &name) != 1)
    if (info.at >= info.end) fail(key, "has no tensor");
  char text[512];
  size_t size = (size_t)(name.end - name.at);
  if (size >= sizeof text) fail(key, "has too long a name");
  memcpy(text, name.at, size);
  text[size] = 0;
  char *colon = strrchr(text, ':');
  int index = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = 0;
  TF_Operation *operation = TF_GraphOperationByName(graph, text);
  if (!operation) fail(text, "is not in the graph");
  return (TF_Output){operation, index};
}

static void read_file(const char *path, TF_TString *into) {
  FILE *file = fopen(path, "rb");
  if (!file) fail(path, "cannot be opened");
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  rewind(file);
  char *data = malloc((size_t)size + 1);
  if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) fail(path, "cannot be read");
  fclose(file);
  TF_StringInit(into);
  TF_StringCopy(into, data, (size_t)size);
  free(data);
}

int main(int argc, char **argv) {
  if (argc < 4) fail("usage", "run_export EXPORT SIGNATURE FILE...");
  int count = argc - 3;
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_Buffer *meta_graph = TF_NewBuffer();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, meta_graph, status);
  check(status, argv[1]);

  /* MetaGraphDef.signature_def is field 5; SignatureDef.inputs 1, .outputs 2. */
  Span meta = {meta_graph->data, (const uint8_t *)meta_graph->data + meta_graph->length};
  Span signature = map_value(meta, 5, argv[2]);
  TF_Output input = tensor_of(graph, signature, 1, "image_bytes");
  TF_Output outputs[6] = {
      tensor_of(graph, signature, 2, "ok"),
      tensor_of(graph, signature, 2, "label"),
      tensor_of(graph, signature, 2, "probabilities"),
  };
  Span found;
  int calibrated = find_value(signature, 2, "unsure", &found), wanted = calibrated ? 5 : 3;
  if (calibrated) {
    outputs[3] = tensor_of(graph, signature, 2, "unsure");
    outputs[4] = tensor_of(graph, signature, 2, "set");
  }
  int knowing = find_value(signature, 2, "distance", &found);
  if (knowing) outputs[wanted++] = tensor_of(graph, signature, 2, "distance");

  int64_t shape[] = {count};
  TF_Tensor *files = TF_AllocateTensor(TF_STRING, shape, 1, (size_t)count * sizeof(TF_TString));
  TF_TString *strings = TF_TensorData(files);
  for (int i = 0; i < count; i++) read_file(argv[3 + i], &strings[i]);

  TF_Tensor *answers[6] = {NULL, NULL, NULL, NULL, NULL, NULL};
  TF_SessionRun(session, NULL, &input, &files, 1, outputs, answers, wanted, NULL, 0, NULL, status);
  check(status, argv[2]);
  const unsigned char *ok = TF_TensorData(answers[0]);
  const TF_TString *labels = TF_TensorData(answers[1]);
  const float *probabilities = TF_TensorData(answers[2]);
  const unsigned char *unsure = calibrated ? TF_TensorData(answers[3]) : NULL;
  const unsigned char *set = calibrated ? TF_TensorData(answers[4]) : NULL;
  const float *distance = knowing ? TF_TensorData(answers[wanted - 1]) : NULL;
  for (int i = 0; i < count; i++) {
    printf("%d '%.*s'", ok[i], (int)TF_StringGetSize(&labels[i]), TF_StringGetDataPointer(&labels[i]));
    for (int j = 0; j < 4; j++) printf(" %.9g", probabilities[4 * i + j]);
    if (calibrated) printf(" %d", unsure[i]);
    for (int j = 0; calibrated && j < 4; j++) printf(" %d", set[4 * i + j]);
    if (knowing) printf(" %.9g", distance[i]);
    printf("\n");
  }

  for (int i = 0; i < wanted; i++) TF_DeleteTensor(answers[i]);
  TF_DeleteTensor(files);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteBuffer(meta_graph);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
