// Sixteen floats in one register.

#pragma once

// The most rows and panels of a tile of the product: 24 sums, two weights and a value are in the
// 32 registers.
#define TILE_ROWS 12
#define TILE_PANELS 2

// With so few rows so many panels.
#define FEW_ROWS 3
#define FEW_ROWS_PANELS 4

// Pairs of keys whose scores are computed at once, and vectors of a value that are mixed at once:
// eight sums, so that none waits for the one before it.
#define KEY_PAIRS 2
#define VALUE_VECTORS 2

typedef __m512 v16;

INLINE v16 v16_load(const float *from) { return _mm512_loadu_ps(from); }
INLINE void v16_store(float *to, v16 x) { _mm512_storeu_ps(to, x); }
INLINE v16 v16_all(float x) { return _mm512_set1_ps(x); }
INLINE v16 v16_zero(void) { return _mm512_setzero_ps(); }
INLINE v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
INLINE v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
INLINE v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
INLINE v16 v16_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
INLINE v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
INLINE v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v16 v16_negative(v16 x) { return _mm512_xor_ps(x, v16_all(-0.0f)); }

INLINE v16 v16_of(v8 low, v8 high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
INLINE v8 v16_low(v16 x) { return _mm512_castps512_ps256(x); }
INLINE v8 v16_high(v16 x) { return _mm512_extractf32x8_ps(x, 1); }
INLINE v16 v16_twice(v8 x) { return _mm512_broadcast_f32x8(x); }

INLINE v16 v16_from_f16(const void *from) { return _mm512_cvtph_ps(_mm256_loadu_si256(from)); }
INLINE v16 v16_from_bf16(const void *from) {
  __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
INLINE v16 v16_from_int8(const void *from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from)));
}

// To the nearest whole number, the even one of two.
INLINE v16 v16_round(v16 x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// 2^n of whole numbers from -126 to 127.
INLINE v16 v16_power_of_two(v16 n) {
  __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

// y, and 0 where a < b.
INLINE v16 v16_zero_where_less(v16 a, v16 b, v16 y) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), y);
}

// A bit for each a <= b.
INLINE uint32_t v16_less_or_equal(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }

// In each quarter the sums of neighbours: two of a, then two of b.
INLINE v16 v16_pairs(v16 a, v16 b) {
  return v16_add(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xDD));
}

// The sums of the lower halves of four vectors, then those of their upper halves, scaled; all that
// for each of KEY_PAIRS times four.
INLINE void put_half_sums(v16 x[KEY_PAIRS][4], float scale, float *to) {
  v16 a = v16_pairs(v16_pairs(x[0][0], x[0][1]), v16_pairs(x[0][2], x[0][3]));
  v16 b = v16_pairs(v16_pairs(x[1][0], x[1][1]), v16_pairs(x[1][2], x[1][3]));
  v16 sums = v16_add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
  v16_store(to, v16_mul(sums, v16_all(scale)));
}
