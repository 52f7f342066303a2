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

// Outputs of QUERIES queries, each over its first ``lengths`` tokens. ``scores`` has room for
// QUERIES * (the longest + 1) floats.
void attend(const Head *head, const float *const queries[QUERIES], const int32_t lengths[QUERIES],
            float *const outputs[QUERIES], float *scores);
