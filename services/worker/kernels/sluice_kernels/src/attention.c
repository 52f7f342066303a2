// Scores of all keys, softmax, then the sum of values. There are always QUERIES queries side by
// side, and a query's sums go by its own tokens in their order, so its output does not depend on
// the others: a prompt's token gets what it would get alone.

#include "attention.h"

#include "vector.h"

// Scores lie token by token, QUERIES for each; keys are taken in pairs, a vector with eight numbers
// of each.
#define TOKENS_OF_VECTOR (16 / QUERIES)
#define KEYS (2 * KEY_PAIRS)

// The scores of KEYS keys.
INLINE void score_keys(const float *const keys[KEYS], const float *const queries[QUERIES],
                       int32_t head_dim, float scale, float *scores) {
  v16 sums[KEY_PAIRS][QUERIES];
#pragma GCC unroll 2
  for (int32_t p = 0; p < KEY_PAIRS; p++) {
#pragma GCC unroll 4
    for (int32_t q = 0; q < QUERIES; q++) sums[p][q] = v16_zero();
  }
  for (int32_t d = 0; d < head_dim; d += 8) {
#pragma GCC unroll 2
    for (int32_t p = 0; p < KEY_PAIRS; p++) {
      const v16 pair = v16_of(v8_load(keys[2 * p] + d), v8_load(keys[2 * p + 1] + d));
#pragma GCC unroll 4
      for (int32_t q = 0; q < QUERIES; q++) {
        sums[p][q] = v16_fma(v16_twice(v8_load(queries[q] + d)), pair, sums[p][q]);
      }
    }
  }
  put_half_sums(sums, scale, scores);
}

static void score(const Head *head, const float *const queries[QUERIES], int32_t tokens,
                  float *scores) {
  for (int32_t j = 0; j < tokens; j += KEYS) {
    const float *keys[KEYS];
    for (int32_t i = 0; i < KEYS; i++) {
      const int64_t token = j + i < tokens ? j + i : tokens - 1;  // the last one again
      keys[i] = head->keys + token * head->head_dim;
    }
    score_keys(keys, queries, head->head_dim, head->scale, scores + (int64_t)j * QUERIES);
  }
}

// Scores become weights e^(score - the highest); what is left is to divide by their sums.
static void soften(const int32_t lengths[QUERIES], int32_t tokens, float *scores,
                   float sums[QUERIES]) {
  const int32_t vectors = (tokens + TOKENS_OF_VECTOR - 1) / TOKENS_OF_VECTOR;
  for (int32_t q = 0; q < QUERIES; q++) {
    for (int32_t j = lengths[q]; j < vectors * TOKENS_OF_VECTOR; j++) {
      scores[(int64_t)j * QUERIES + q] = -INFINITY;
    }
  }
  v16 found = v16_all(-INFINITY);
  for (int32_t i = 0; i < vectors; i++) found = v16_max(found, v16_load(scores + i * 16));
  v8 highest = _mm256_max_ps(v16_low(found), v16_high(found));
  highest = _mm256_max_ps(highest, _mm256_permute2f128_ps(highest, highest, 1));
  const v16 subtracted = v16_twice(highest);
  v8 sum = v8_zero();
  for (int32_t i = 0; i < vectors; i++) {
    v16 weight = v16_exp(v16_sub(v16_load(scores + i * 16), subtracted));
    v16_store(scores + i * 16, weight);
    sum = _mm256_add_ps(_mm256_add_ps(sum, v16_low(weight)), v16_high(weight));
  }
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1)));
}

// A vector of sixteen dimensions or of the last eight.
INLINE v16 dimensions(const float *from, const int32_t count) {
  return count < 16 ? v16_of(v8_load(from), v8_zero()) : v16_load(from);
}

INLINE void add_value(const float *value, float weight, const int32_t count, v16 *mixed) {
#pragma GCC unroll 2
  for (int32_t d = 0; d < count; d += 16) {
    mixed[d / 16] = v16_fma(v16_all(weight), dimensions(value + d, count - d), mixed[d / 16]);
  }
}

// ``count`` dimensions from ``first`` on. Each query goes by its own tokens: one more with a weight
// of zero would still bring in a value that is not a number.
INLINE void mix(const Head *head, const int32_t lengths[QUERIES], const float *weights,
                const float sums[QUERIES], int32_t first, const int32_t count,
                float *const outputs[QUERIES]) {
  const float *values = head->values + first;
  const int64_t width = head->head_dim;
  int32_t common = lengths[0];
  for (int32_t q = 1; q < QUERIES; q++) common = lengths[q] < common ? lengths[q] : common;
  v16 mixed[QUERIES][VALUE_VECTORS];
#pragma GCC unroll 4
  for (int32_t q = 0; q < QUERIES; q++) {
#pragma GCC unroll 2
    for (int32_t v = 0; v < VALUE_VECTORS; v++) mixed[q][v] = v16_zero();
  }
  for (int64_t j = 0; j < common; j++) {
#pragma GCC unroll 4
    for (int32_t q = 0; q < QUERIES; q++) {
      add_value(values + j * width, weights[j * QUERIES + q], count, mixed[q]);
    }
  }
#pragma GCC unroll 4
  for (int32_t q = 0; q < QUERIES; q++) {
    for (int64_t j = common; j < lengths[q]; j++) {
      add_value(values + j * width, weights[j * QUERIES + q], count, mixed[q]);
    }
    const v16 share = v16_all(1.0f / sums[q]);
#pragma GCC unroll 2
    for (int32_t d = 0; d < count; d += 16) {
      const v16 mean = v16_mul(mixed[q][d / 16], share);
      float *to = outputs[q] + first + d;
      if (count < 16) v8_store(to, v16_low(mean));
      else v16_store(to, mean);
    }
  }
}

void attend(const Head *head, const float *const queries[QUERIES], const int32_t lengths[QUERIES],
            float *const outputs[QUERIES], float *scores) {
  int32_t tokens = 0;
  for (int32_t q = 0; q < QUERIES; q++) tokens = lengths[q] > tokens ? lengths[q] : tokens;
  float sums[QUERIES];
  score(head, queries, tokens, scores);
  soften(lengths, tokens, scores, sums);
  int32_t d = 0;
#if VALUE_VECTORS > 1
  for (; d + 32 <= head->head_dim; d += 32) mix(head, lengths, scores, sums, d, 32, outputs);
#endif
  for (; d + 16 <= head->head_dim; d += 16) mix(head, lengths, scores, sums, d, 16, outputs);
  if (d < head->head_dim) mix(head, lengths, scores, sums, d, 8, outputs);
}
