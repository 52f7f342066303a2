// Sixteen floats in two registers.

#pragma once

// The most rows and panels of a tile of the product: twelve sums, the halves of a weight and a
// value are in the 16 registers.
#define TILE_ROWS 6
#define TILE_PANELS 1

// With so few rows so many panels.
#define FEW_ROWS 3
#define FEW_ROWS_PANELS 2

// Pairs of keys whose scores are computed at once, and vectors of a value that are mixed at once:
// eight sums, so that none waits for the one before it.
#define KEY_PAIRS 1
#define VALUE_VECTORS 1

typedef struct {
  v8 low, high;
} v16;

INLINE v16 v16_of(v8 low, v8 high) { return (v16){low, high}; }
INLINE v8 v16_low(v16 x) { return x.low; }
INLINE v8 v16_high(v16 x) { return x.high; }
INLINE v16 v16_twice(v8 x) { return (v16){x, x}; }

INLINE v16 v16_load(const float *from) { return v16_of(v8_load(from), v8_load(from + 8)); }
INLINE void v16_store(float *to, v16 x) {
  v8_store(to, x.low);
  v8_store(to + 8, x.high);
}
INLINE v16 v16_all(float x) { return v16_twice(v8_all(x)); }
INLINE v16 v16_zero(void) { return v16_twice(v8_zero()); }
#define BY_HALVES(function, a, b) v16_of(function((a).low, (b).low), function((a).high, (b).high))
INLINE v16 v16_add(v16 a, v16 b) { return BY_HALVES(_mm256_add_ps, a, b); }
INLINE v16 v16_sub(v16 a, v16 b) { return BY_HALVES(_mm256_sub_ps, a, b); }
INLINE v16 v16_mul(v16 a, v16 b) { return BY_HALVES(_mm256_mul_ps, a, b); }
INLINE v16 v16_div(v16 a, v16 b) { return BY_HALVES(_mm256_div_ps, a, b); }
INLINE v16 v16_min(v16 a, v16 b) { return BY_HALVES(_mm256_min_ps, a, b); }
INLINE v16 v16_max(v16 a, v16 b) { return BY_HALVES(_mm256_max_ps, a, b); }
INLINE v16 v16_fma(v16 a, v16 b, v16 c) {
  return v16_of(v8_fma(a.low, b.low, c.low), v8_fma(a.high, b.high, c.high));
}
INLINE v16 v16_negative(v16 x) {
  const v8 sign = v8_all(-0.0f);
  return v16_of(_mm256_xor_ps(x.low, sign), _mm256_xor_ps(x.high, sign));
}

INLINE v16 v16_from_f16(const void *from) {
  const __m128i *halves = from;
  return v16_of(_mm256_cvtph_ps(_mm_loadu_si128(halves)),
                _mm256_cvtph_ps(_mm_loadu_si128(halves + 1)));
}
INLINE v8 v8_from_bf16(__m128i x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
INLINE v16 v16_from_bf16(const void *from) {
  const __m128i *halves = from;
  return v16_of(v8_from_bf16(_mm_loadu_si128(halves)), v8_from_bf16(_mm_loadu_si128(halves + 1)));
}
INLINE v8 v8_from_int8(__m128i x) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)); }
INLINE v16 v16_from_int8(const void *from) {
  const char *bytes = from;
  return v16_of(v8_from_int8(_mm_loadl_epi64((const __m128i *)bytes)),
                v8_from_int8(_mm_loadl_epi64((const __m128i *)(bytes + 8))));
}

// To the nearest whole number, the even one of two.
INLINE v8 v8_round(v8 x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE v16 v16_round(v16 x) { return v16_of(v8_round(x.low), v8_round(x.high)); }

// 2^n of whole numbers from -126 to 127.
INLINE v8 v8_power_of_two(v8 n) {
  __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
INLINE v16 v16_power_of_two(v16 n) {
  return v16_of(v8_power_of_two(n.low), v8_power_of_two(n.high));
}

// y, and 0 where a < b.
INLINE v8 v8_zero_where_less(v8 a, v8 b, v8 y) {
  return _mm256_andnot_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ), y);
}
INLINE v16 v16_zero_where_less(v16 a, v16 b, v16 y) {
  return v16_of(v8_zero_where_less(a.low, b.low, y.low), v8_zero_where_less(a.high, b.high, y.high));
}

// A bit for each a <= b.
INLINE uint32_t v8_less_or_equal(v8 a, v8 b) {
  return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ));
}
INLINE uint32_t v16_less_or_equal(v16 a, v16 b) {
  return v8_less_or_equal(a.low, b.low) | v8_less_or_equal(a.high, b.high) << 8;
}

// The sums of four vectors.
INLINE __m128 v8_sums(v8 a, v8 b, v8 c, v8 d) {
  v8 pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

// The sums of the lower halves of four vectors, then those of their upper halves, scaled; all that
// for each of KEY_PAIRS times four.
INLINE void put_half_sums(v16 x[KEY_PAIRS][4], float scale, float *to) {
  const v16 *four = x[0];
  __m128 low = v8_sums(four[0].low, four[1].low, four[2].low, four[3].low);
  __m128 high = v8_sums(four[0].high, four[1].high, four[2].high, four[3].high);
  v8_store(to, _mm256_mul_ps(_mm256_set_m128(high, low), v8_all(scale)));
}
