// A layer is a few phases, each of which begins when all of the one before it is done. Within a phase
// each thread has pieces of work that lie side by side, so that memory is read in order, and then
// takes over pieces of the others. A thread that is held up, because something else has its core,
// holds up the one piece that it is at: the others do the rest, and go on to the next phase without it.

#include "decoder.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "draw.h"
#include "vector.h"

#define PHASES_PER_LAYER 8
#define PHASES_AT_END 2
#define PIECES_PER_THREAD 4  // of a product at least, where it can be cut so far
#define BLOCK_TOKENS 8  // neighbouring tokens of a row whose attention is one piece of work

typedef struct {
  int32_t first, count;
} Block;

typedef struct {
  const Model *model;
  const Step *step;
  int32_t threads, length, phases, qkv_stride, inner_stride, block_count;
  float *normed;  // [rows, hidden]
  float *qkv;     // [rows, qkv_stride]
  float *mixed;   // [rows, heads * head_dim]
  float *gate, *up;  // [rows, inner_stride]
  float *scores;  // [threads, attention_memory(length)]
  Block *blocks;
  atomic_int *next;  // [threads, phases]: the next piece of each thread's share of a phase
  atomic_int *done;  // [phases]: how many pieces are done
} Work;

typedef void (*Piece)(const Work *work, int32_t layer, int32_t piece, int32_t thread);

static int32_t panels_of(int32_t width) { return (width + PANEL - 1) / PANEL; }

// Layout of the working memory

// Room for ``bytes`` at ``*at`` bytes from the beginning, which may be null where only sizes count.
static void *laid(char *memory, int64_t *at, int64_t bytes) {
  void *here = memory ? memory + *at : NULL;
  *at += (bytes + 63) / 64 * 64;
  return here;
}

static int64_t lay_out(Work *work, const Model *model, int32_t threads, int32_t rows,
                       int32_t length, char *memory) {
  int64_t at = 0;
  const int64_t wide = (int64_t)model->heads * model->head_dim;
  const int64_t qkv = wide + 2 * (int64_t)model->kv_heads * model->head_dim;
  work->threads = threads;
  work->phases = (model->layers * PHASES_PER_LAYER + PHASES_AT_END + 15) / 16 * 16;
  work->qkv_stride = panels_of((int32_t)qkv) * PANEL;
  work->inner_stride = panels_of(model->intermediate) * PANEL;
  work->normed = laid(memory, &at, rows * (int64_t)model->hidden * 4);
  work->qkv = laid(memory, &at, rows * (int64_t)work->qkv_stride * 4);
  work->mixed = laid(memory, &at, rows * wide * 4);
  work->gate = laid(memory, &at, rows * (int64_t)work->inner_stride * 4);
  work->up = laid(memory, &at, rows * (int64_t)work->inner_stride * 4);
  work->scores = laid(memory, &at, threads * attention_memory(length) * 4);
  work->blocks = laid(memory, &at, rows * (int64_t)sizeof(Block));
  work->next = laid(memory, &at, threads * (int64_t)work->phases * (int64_t)sizeof(atomic_int));
  work->done = laid(memory, &at, work->phases * (int64_t)sizeof(atomic_int));
  return at;
}

static void find_blocks(Work *work) {
  const Step *step = work->step;
  for (int32_t row = 0; row < step->rows; row++) {
    Block *last = work->block_count ? &work->blocks[work->block_count - 1] : NULL;
    if (last && last->count < BLOCK_TOKENS && step->slots[row] == step->slots[row - 1] &&
        step->positions[row] == step->positions[row - 1] + 1) {
      last->count++;
    } else {
      work->blocks[work->block_count++] = (Block){row, 1};
    }
  }
}

// Pieces of work

static void normalise(const float *x, const float *weight, int32_t width, float eps, float *y) {
  v8 squares = v8_zero();
  float rest = 0.0f;
  int32_t i = 0;
  for (; i + 8 <= width; i += 8) squares = v8_fma(v8_load(x + i), v8_load(x + i), squares);
  for (; i < width; i++) rest += x[i] * x[i];
  const float scale = 1.0f / sqrtf((v8_sum(squares) + rest) / (float)width + eps);
  for (i = 0; i + 8 <= width; i += 8) {
    v8 scaled = _mm256_mul_ps(v8_load(x + i), v8_all(scale));
    v8_store(y + i, _mm256_mul_ps(scaled, v8_load(weight + i)));
  }
  for (; i < width; i++) y[i] = x[i] * scale * weight[i];
}

static void norm_row(const Work *work, const float *weight, int32_t row) {
  const int64_t width = work->model->hidden;
  normalise(work->step->x + row * width, weight, (int32_t)width, work->model->norm_eps,
            work->normed + row * width);
}

static void input_norm(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  (void)thread;
  norm_row(work, work->model->layer[layer].input_norm, piece);
}

static void mlp_norm(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  (void)thread;
  norm_row(work, work->model->layer[layer].mlp_norm, piece);
}

// The panels of a piece: as many as are best computed together, or fewer, so that all threads
// have some.
static int32_t panels_at_once(const Work *work, int32_t rows, int32_t outputs) {
  const int32_t panels = panels_of(outputs);
  int32_t at_once = best_panels(rows);
  while (at_once > 1 && panels < at_once * work->threads * PIECES_PER_THREAD) at_once /= 2;
  return at_once;
}

static int32_t pieces_of(const Work *work, int32_t rows, int32_t outputs) {
  const int32_t at_once = panels_at_once(work, rows, outputs);
  return (panels_of(outputs) + at_once - 1) / at_once;
}

static void multiply_piece(const Work *work, const Weights *weights, const float *x,
                           int64_t x_stride, int32_t rows, int32_t piece, float *y,
                           int64_t y_stride, int32_t add) {
  const int32_t panels = panels_of(weights->outputs);
  const int32_t at_once = panels_at_once(work, rows, weights->outputs);
  const int32_t first = piece * at_once;
  const int32_t last = first + at_once < panels ? first + at_once : panels;
  multiply(weights, work->model->kind, x, x_stride, rows, first, last, y, y_stride, add);
}

static void qkv_piece(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  (void)thread;
  multiply_piece(work, &work->model->layer[layer].qkv, work->normed, work->model->hidden,
                 work->step->rows, piece, work->qkv, work->qkv_stride, 0);
}

static void rotate(float *head, const float *rotation, int32_t width) {
  for (int32_t i = 0; i < width; i += 8) {
    v8 x = v8_load(head + i), turn = v8_load(rotation + i);
    v8 crossed = _mm256_mul_ps(_mm256_permute_ps(x, 0xB1), _mm256_movehdup_ps(turn));
    v8_store(head + i, _mm256_fmaddsub_ps(x, _mm256_moveldup_ps(turn), crossed));
  }
}

// Turn a row's queries and keys to their position, and keep its keys and values.
static void place_row(const Work *work, int32_t layer, int32_t row, int32_t thread) {
  (void)thread;
  const Model *model = work->model;
  const Step *step = work->step;
  const int32_t width = model->head_dim, position = step->positions[row];
  const float *rotation = model->rotations + (int64_t)position * width;
  const float *head_norm = model->layer[layer].head_norm;
  float *qkv = work->qkv + (int64_t)row * work->qkv_stride;
  for (int32_t head = 0; head < model->heads + model->kv_heads; head++) {
    float *at = qkv + (int64_t)head * width;
    if (head_norm) normalise(at, head_norm + (int64_t)head * width, width, model->norm_eps, at);
    rotate(at, rotation, width);
  }
  const float *kept = qkv + (int64_t)model->heads * width;
  float *place = step->cache + step->slots[row] * step->slot_stride +
                 layer * step->layer_stride + (int64_t)position * width;
  for (int32_t part = 0; part < 2 * model->kv_heads; part++) {
    memcpy(place + part * step->part_stride, kept + (int64_t)part * width, (size_t)width * 4);
  }
}

// A block of neighbouring tokens and one key-value head, with all query heads that share it.
static void attend_piece(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  const Model *model = work->model;
  const Step *step = work->step;
  const int32_t kv_head = piece % model->kv_heads, width = model->head_dim;
  const Block block = work->blocks[piece / model->kv_heads];
  const int32_t group = model->heads / model->kv_heads, count = block.count * group;
  const float *keys = step->cache + step->slots[block.first] * step->slot_stride +
                      layer * step->layer_stride + kv_head * step->part_stride;
  const float *values = keys + model->kv_heads * step->part_stride;
  const Head head = {keys, values, width, 1.0f / sqrtf((float)width)};
  float *scores = work->scores + thread * attention_memory(work->length);
  for (int32_t first = 0; first < count; first += QUERIES) {
    const float *queries[QUERIES];
    float *outputs[QUERIES];
    int32_t lengths[QUERIES];
    for (int32_t q = 0; q < QUERIES; q++) {
      const int32_t query = first + q < count ? first + q : count - 1;  // the last one again
      const int64_t row = block.first + query / group;
      const int64_t at = ((int64_t)(query % group) * model->kv_heads + kv_head) * width;
      queries[q] = work->qkv + row * work->qkv_stride + at;
      outputs[q] = work->mixed + row * model->heads * width + at;
      lengths[q] = step->positions[row] + 1;
    }
    attend(&head, queries, lengths, outputs, scores);
  }
}

static void output_piece(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  (void)thread;
  const Model *model = work->model;
  multiply_piece(work, &model->layer[layer].output, work->mixed,
                 (int64_t)model->heads * model->head_dim, work->step->rows, piece, work->step->x,
                 model->hidden, 1);
}

static void gate_up_piece(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  (void)thread;
  const Model *model = work->model;
  const Layer *weights = &model->layer[layer];
  const int32_t rows = work->step->rows;
  const int32_t at_once = panels_at_once(work, rows, model->intermediate);
  const int64_t stride = work->inner_stride;
  multiply_piece(work, &weights->gate, work->normed, model->hidden, rows, piece, work->gate,
                 stride, 0);
  multiply_piece(work, &weights->up, work->normed, model->hidden, rows, piece, work->up, stride, 0);
  const int64_t first = (int64_t)piece * at_once * PANEL, last = first + (int64_t)at_once * PANEL;
  for (int32_t row = 0; row < rows; row++) {
    float *gate = work->gate + row * stride;
    const float *up = work->up + row * stride;
    for (int64_t i = first; i < last && i < stride; i += 16) {
      v16_store(gate + i, v16_mul(v16_silu(v16_load(gate + i)), v16_load(up + i)));
    }
  }
}

static void down_piece(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  (void)thread;
  const Model *model = work->model;
  multiply_piece(work, &model->layer[layer].down, work->gate, work->inner_stride, work->step->rows,
                 piece, work->step->x, model->hidden, 1);
}

// What logits are wanted of, gathered at the beginning of ``normed``.
static void final_norm(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  (void)layer, (void)thread;
  const Model *model = work->model;
  const int64_t row = work->step->logits_rows[piece], width = model->hidden;
  normalise(work->step->x + row * width, model->norm, model->hidden, model->norm_eps,
            work->normed + piece * width);
}

static void head_piece(const Work *work, int32_t layer, int32_t piece, int32_t thread) {
  (void)layer, (void)thread;
  const Model *model = work->model;
  const Step *step = work->step;
  multiply_piece(work, &model->head, work->normed, model->hidden, step->logits_count, piece,
                 step->logits, model->head.outputs, 0);
}

// The step

static int32_t share_start(int32_t pieces, int32_t threads, int32_t thread) {
  return (int32_t)((int64_t)pieces * thread / threads);
}

static void phase(const Work *work, Pool *pool, int32_t *number, Piece run, int32_t layer,
                  int32_t pieces, int32_t thread) {
  const int32_t threads = pool_threads(pool);
  int32_t done = 0;
  for (int32_t i = 0; i < threads; i++) {
    const int32_t owner = (thread + i) % threads;
    const int32_t first = share_start(pieces, threads, owner);
    const int32_t count = share_start(pieces, threads, owner + 1) - first;
    atomic_int *next = &work->next[owner * work->phases + *number];
    for (;;) {
      int32_t piece = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
      if (piece >= count) break;
      run(work, layer, first + piece, thread);
      done++;
    }
  }
  pool_await(pool, &work->done[(*number)++], done, pieces);
}

static void run_step(void *argument, Pool *pool, int32_t thread) {
  const Work *work = argument;
  const Model *model = work->model;
  const int32_t rows = work->step->rows, qkv = model->layer[0].qkv.outputs;
  const int32_t hidden = pieces_of(work, rows, model->hidden);
  const int32_t inner = pieces_of(work, rows, model->intermediate);
  const int32_t attention = work->block_count * model->kv_heads;
  int32_t number = 0;
  for (int32_t layer = 0; layer < model->layers; layer++) {
    phase(work, pool, &number, input_norm, layer, rows, thread);
    phase(work, pool, &number, qkv_piece, layer, pieces_of(work, rows, qkv), thread);
    phase(work, pool, &number, place_row, layer, rows, thread);
    phase(work, pool, &number, attend_piece, layer, attention, thread);
    phase(work, pool, &number, output_piece, layer, hidden, thread);
    phase(work, pool, &number, mlp_norm, layer, rows, thread);
    phase(work, pool, &number, gate_up_piece, layer, inner, thread);
    phase(work, pool, &number, down_piece, layer, hidden, thread);
  }
  const int32_t wanted = work->step->logits_count;
  if (!wanted) return;
  const int32_t vocabulary = pieces_of(work, wanted, model->head.outputs);
  phase(work, pool, &number, final_norm, 0, wanted, thread);
  phase(work, pool, &number, head_piece, 0, vocabulary, thread);
}

int64_t kernels_layout(void) {
  const int64_t sizes[] = {sizeof(Layer), sizeof(Model), sizeof(Step), sizeof(Draw)};
  return ((LAYOUT * 1000LL + sizes[3]) * 1000 + sizes[2]) * 1000000 + sizes[1] * 1000 + sizes[0];
}

int64_t decoder_memory(const Model *model, int32_t threads, int32_t rows, int32_t length) {
  Work work;
  return lay_out(&work, model, threads, rows, length, NULL);
}

void decoder_step(const Model *model, Pool *pool, const Step *step, int32_t length, void *memory) {
  Work work = {.model = model, .step = step, .length = length};
  lay_out(&work, model, pool_threads(pool), step->rows, length, memory);
  const int32_t counters = pool_threads(pool) * work.phases;
  for (int32_t i = 0; i < counters; i++) atomic_init(&work.next[i], 0);
  for (int32_t i = 0; i < work.phases; i++) atomic_init(&work.done[i], 0);
  find_blocks(&work);
  pool_run(pool, run_step, &work);
}
