// Scores of all keys, softmax, then the sum of values. There are always QUERIES queries side by
// side, and a query's sums go by its own tokens in their order, so its output does not depend on
// the others: a prompt's token gets what it would get alone.

#include "attention.h"

#include "vector.h"

// Scores lie token by token, QUERIES for each, so that a vector has those of two tokens.

static void score(const Head *head, const float *const queries[QUERIES], int32_t tokens,
                  float *scores) {
  const __m128 scale = _mm_set1_ps(head->scale);
  for (int32_t j = 0; j < tokens; j++) {
    const float *key = head->keys + (int64_t)j * head->head_dim;
    v8 sums[QUERIES] = {v8_zero(), v8_zero(), v8_zero(), v8_zero()};
    for (int32_t d = 0; d < head->head_dim; d += 8) {
      v8 k = v8_load(key + d);
#pragma GCC unroll 4
      for (int32_t q = 0; q < QUERIES; q++) {
        sums[q] = v8_fma(v8_load(queries[q] + d), k, sums[q]);
      }
    }
    __m128 found = v8_sums(sums[0], sums[1], sums[2], sums[3]);
    _mm_storeu_ps(scores + (int64_t)j * QUERIES, _mm_mul_ps(found, scale));
  }
}

// Scores become weights e^(score - the highest); what is left is to divide by their sums.
static void soften(const int32_t lengths[QUERIES], int32_t tokens, float *scores,
                   float sums[QUERIES]) {
  const int32_t pairs = (tokens + 1) / 2;
  for (int32_t q = 0; q < QUERIES; q++) {
    for (int32_t j = lengths[q]; j < 2 * pairs; j++) scores[(int64_t)j * QUERIES + q] = -INFINITY;
  }
  v8 highest = v8_all(-INFINITY);
  for (int32_t i = 0; i < pairs; i++) highest = _mm256_max_ps(highest, v8_load(scores + i * 8));
  highest = _mm256_max_ps(highest, _mm256_permute2f128_ps(highest, highest, 1));
  v8 sum = v8_zero();
  for (int32_t i = 0; i < pairs; i++) {
    v8 weight = v8_exp(_mm256_sub_ps(v8_load(scores + i * 8), highest));
    v8_store(scores + i * 8, weight);
    sum = _mm256_add_ps(sum, weight);
  }
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1)));
}

INLINE void add_value(const float *value, float weight, const int32_t vectors, v8 mixed[2]) {
  mixed[0] = v8_fma(v8_all(weight), v8_load(value), mixed[0]);
  if (vectors == 2) mixed[1] = v8_fma(v8_all(weight), v8_load(value + 8), mixed[1]);
}

// Dimensions from ``d`` on, ``vectors`` times eight of them. Each query goes by its own tokens: one
// more with a weight of zero would still bring in a value that is not a number.
INLINE void mix(const Head *head, const int32_t lengths[QUERIES], const float *weights,
                const float sums[QUERIES], int32_t d, const int32_t vectors,
                float *const outputs[QUERIES]) {
  const int64_t width = head->head_dim;
  int32_t common = lengths[0];
  for (int32_t q = 1; q < QUERIES; q++) common = lengths[q] < common ? lengths[q] : common;
  v8 mixed[QUERIES][2];
#pragma GCC unroll 4
  for (int32_t q = 0; q < QUERIES; q++) mixed[q][0] = mixed[q][1] = v8_zero();
  for (int64_t j = 0; j < common; j++) {
#pragma GCC unroll 4
    for (int32_t q = 0; q < QUERIES; q++) {
      add_value(head->values + j * width + d, weights[j * QUERIES + q], vectors, mixed[q]);
    }
  }
#pragma GCC unroll 4
  for (int32_t q = 0; q < QUERIES; q++) {
    for (int64_t j = common; j < lengths[q]; j++) {
      add_value(head->values + j * width + d, weights[j * QUERIES + q], vectors, mixed[q]);
    }
    v8 share = v8_all(1.0f / sums[q]);
    v8_store(outputs[q] + d, _mm256_mul_ps(mixed[q][0], share));
    if (vectors == 2) v8_store(outputs[q] + d + 8, _mm256_mul_ps(mixed[q][1], share));
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
  for (; d + 16 <= head->head_dim; d += 16) mix(head, lengths, scores, sums, d, 2, outputs);
  if (d < head->head_dim) mix(head, lengths, scores, sums, d, 1, outputs);
}
