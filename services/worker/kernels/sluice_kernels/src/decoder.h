// A step of a decoder of the Llama shape: Llama, Mistral, Qwen2, Qwen3.
//
// The structures, and that of draw.h, are those of sluice_kernels/__init__.py, field by field.

#pragma once

#include <stdint.h>

#include "pool.h"
#include "product.h"

// Counts changes of what the structures mean.
#define LAYOUT 2

typedef struct {
  const float *input_norm;  // [hidden]
  const float *head_norm;   // [heads + kv_heads, head_dim], or null
  const float *mlp_norm;    // [hidden]
  Weights qkv, output, gate, up, down;
} Layer;

// The halves of a head that the rotary embedding pairs are neighbours, and query heads lie in the
// order [group, kv_heads].
typedef struct {
  int32_t layers, hidden, heads, kv_heads, head_dim, intermediate;
  int32_t kind;  // of all weights
  float norm_eps;
  const Layer *layer;
  const float *norm;       // [hidden]
  Weights head;            // its outputs are the vocabulary
  const float *rotations;  // [positions, head_dim / 2, 2]: cosine and sine
} Model;

// Tokens of one step. Those of one slot follow each other by position.
typedef struct {
  int32_t rows;
  int32_t logits_count;
  const int32_t *slots;        // [rows]
  const int32_t *positions;    // [rows]
  const int32_t *logits_rows;  // [logits_count]: which rows' logits are wanted
  float *x;                    // [rows, hidden]: embeddings; overwritten
  float *logits;               // [logits_count, vocabulary]
  float *cache;                // a slot's is [layers, keys and values, kv_heads, length, head_dim]
  int64_t slot_stride;         // floats from slot to slot,
  int64_t layer_stride;        // from layer to layer,
  int64_t part_stride;         // and from head to head
} Step;

// LAYOUT and the structures' sizes: whether whoever calls knows the same ones.
int64_t kernels_layout(void);

// Bytes of working memory for a step of so many rows whose longest row has ``length`` tokens.
int64_t decoder_memory(const Model *model, int32_t threads, int32_t rows, int32_t length);

// Compute a step. ``memory`` is aligned to 64 bytes and as large as decoder_memory says.
void decoder_step(const Model *model, Pool *pool, const Step *step, int32_t length, void *memory);
