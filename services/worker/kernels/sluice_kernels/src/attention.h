// Attention of queries over the keys and values of one head.

#pragma once

#include <stdint.h>

// So many queries are computed at once, whatever there are.
#define QUERIES 4

typedef struct {
  const float *keys;    // [tokens, head_dim]
  const float *values;  // as keys
  int32_t head_dim;     // a multiple of 8
  float scale;
} Head;

// Floats of working memory for queries over up to ``length`` tokens.
static inline int64_t attention_memory(int32_t length) { return QUERIES * ((int64_t)length + 3); }

// Outputs of QUERIES queries, each over its first ``lengths`` tokens. ``scores`` is working memory.
void attend(const Head *head, const float *const queries[QUERIES], const int32_t lengths[QUERIES],
            float *const outputs[QUERIES], float *scores);
