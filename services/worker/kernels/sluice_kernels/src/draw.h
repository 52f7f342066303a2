// Drawing tokens from logits.

#pragma once

#include <stdint.h>

#include "pool.h"

// A token of one row: of the ``top_k`` largest logits, those of them whose share of the mass begins
// before ``top_p``, and of these again those that are at least ``floor`` beside the largest, the one
// at ``share`` of their mass. Equal logits rank by id.
typedef struct {
  const float *logits;  // [vocabulary]
  double share;         // in [0, 1)
  double top_p;         // 1: no bound
  float temperature;    // above 0
  float floor;          // the logarithm of min_p; minus infinity: no bound
  int32_t top_k;        // 0: no bound
} Draw;

// Bytes of working memory.
int64_t draw_memory(int32_t threads, int32_t vocabulary);

// Draw ``count`` tokens; -1 where the scaled logits are no numbers. ``memory`` is aligned to 64
// bytes and as large as draw_memory says.
void draw_tokens(Pool *pool, const Draw *draws, int32_t count, int32_t vocabulary, void *memory,
                 int32_t *tokens);
