// Without bounds a token is found by its share in the order of ids. With bounds it would take the
// whole ranking: but whatever is asked of it is answered by the masses of buckets, each with the
// logits of a small range, and the ranking within one or two of them.
//
// A row's token depends on its own numbers alone, whichever thread draws it.

#include "draw.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "vector.h"

#define BLOCK 256  // neighbouring tokens whose mass is kept
#define BUCKETS 2048

// How far below the highest tokens are looked for. The first is nearly always enough, and behind
// the last one there is no weight.
static const float kDistances[] = {8.0f, 32.0f, 88.0f};
#define DISTANCES (int32_t)(sizeof(kDistances) / sizeof(*kDistances))

typedef struct {
  float scaled;
  int32_t id;
} Ranked;

// One thread's working memory, with what is known of the row that it draws.
typedef struct {
  float *scaled;   // [vocabulary]: logits by temperature
  float *weights;  // [vocabulary]: e^(scaled - highest)
  double *blocks;  // [vocabulary / BLOCK]: sums of weights
  int32_t *ids;    // [candidate_count]: the tokens that the buckets have
  Ranked *ranked;  // those of one bucket, ranked
  int32_t *counts;
  double *masses;
  int32_t vocabulary, candidate_count;
  int32_t ranked_bucket;
  float highest, buckets_per_unit;
  double total;
} Row;

// The first tokens of the ranking.
typedef struct {
  int32_t count;
  double mass;
} Prefix;

typedef struct {
  const Draw *draws;
  int32_t count, vocabulary;
  char *memory;
  int32_t *tokens;
  atomic_int next;
} Drawing;

static int64_t rounded(int64_t count) { return (count + BLOCK - 1) / BLOCK * BLOCK; }

static int64_t row_memory(int32_t vocabulary) {
  const int64_t wide = rounded(vocabulary);
  const int64_t each = 2 * (int64_t)sizeof(float) + (int64_t)sizeof(int32_t) + (int64_t)sizeof(Ranked);
  return wide * each + wide / BLOCK * (int64_t)sizeof(double) +
         BUCKETS * (int64_t)(sizeof(int32_t) + sizeof(double));
}

static Row row_in(char *memory, int32_t vocabulary) {
  const int64_t wide = rounded(vocabulary);
  Row row = {.vocabulary = vocabulary};
  row.scaled = (float *)memory;
  row.weights = row.scaled + wide;
  row.ranked = (Ranked *)(row.weights + wide);
  row.masses = (double *)(row.ranked + wide);
  row.blocks = row.masses + BUCKETS;
  row.counts = (int32_t *)(row.blocks + wide / BLOCK);
  row.ids = row.counts + BUCKETS;
  return row;
}

// Weights

static void scale(Row *row, const float *logits, float temperature) {
  const int32_t vocabulary = row->vocabulary;
  const int64_t wide = rounded(vocabulary);
  const v16 by = v16_all(temperature);
  v16 highest = v16_all(-INFINITY);
  int32_t i = 0;
  for (; i + 16 <= vocabulary; i += 16) {
    const v16 scaled = v16_div(v16_load(logits + i), by);
    v16_store(row->scaled + i, scaled);
    highest = v16_max(highest, scaled);
  }
  float lanes[16];
  v16_store(lanes, highest);
  row->highest = -INFINITY;
  for (int32_t lane = 0; lane < 16; lane++) row->highest = fmaxf(row->highest, lanes[lane]);
  for (; i < vocabulary; i++) {
    row->scaled[i] = logits[i] / temperature;
    row->highest = fmaxf(row->highest, row->scaled[i]);
  }
  for (; i < wide; i++) row->scaled[i] = -INFINITY;
}

static void weigh(Row *row) {
  const int64_t wide = rounded(row->vocabulary);
  const v16 highest = v16_all(row->highest);
  row->total = 0.0;
  for (int64_t block = 0; block < wide / BLOCK; block++) {
    v16 sums = v16_zero();
    for (int64_t i = block * BLOCK; i < (block + 1) * BLOCK; i += 16) {
      const v16 weights = v16_exp(v16_sub(v16_load(row->scaled + i), highest));
      v16_store(row->weights + i, weights);
      sums = v16_add(sums, weights);
    }
    float lanes[16];
    v16_store(lanes, sums);
    double sum = 0.0;
    for (int32_t lane = 0; lane < 16; lane++) sum += (double)lanes[lane];
    row->blocks[block] = sum;
    row->total += sum;
  }
}

// Without bounds

// The token at ``target`` of all weights. Sums of a block and of its tokens may differ in their last
// bits: the last token with a weight ends a block.
static int32_t by_id(const Row *row, double target) {
  const int64_t count = rounded(row->vocabulary) / BLOCK;
  double passed = 0.0;
  int64_t block = 0, last = 0;
  for (; block < count; block++) {
    if (row->blocks[block] > 0.0) last = block;
    if (passed + row->blocks[block] > target) break;
    passed += row->blocks[block];
  }
  if (block == count) block = last;
  int32_t found = -1;
  for (int64_t i = block * BLOCK; i < (block + 1) * BLOCK && passed <= target; i++) {
    passed += (double)row->weights[i];
    if (row->weights[i] > 0.0f) found = (int32_t)i;
  }
  return found;
}

// Buckets

static int32_t bucket_of(const Row *row, int32_t id) {
  const float place = (row->highest - row->scaled[id]) * row->buckets_per_unit;
  return place < BUCKETS - 1 ? (int32_t)place : BUCKETS - 1;
}

// Take the tokens that are at most ``distance`` below the highest.
static void gather(Row *row, float distance) {
  const v16 highest = v16_all(row->highest), most = v16_all(distance);
  int32_t count = 0;
  for (int32_t i = 0; i < row->vocabulary; i += 16) {
    const v16 below = v16_sub(highest, v16_load(row->scaled + i));
    for (uint32_t found = v16_less_or_equal(below, most); found; found &= found - 1) {
      row->ids[count++] = i + __builtin_ctz(found);
    }
  }
  row->candidate_count = count;
  row->buckets_per_unit = BUCKETS / distance;
  row->ranked_bucket = -1;
  memset(row->counts, 0, BUCKETS * sizeof(int32_t));
  memset(row->masses, 0, BUCKETS * sizeof(double));
  for (int32_t i = 0; i < count; i++) {
    const int32_t bucket = bucket_of(row, row->ids[i]);
    row->counts[bucket]++;
    row->masses[bucket] += (double)row->weights[row->ids[i]];
  }
}

static int by_rank(const void *left, const void *right) {
  const Ranked *a = left, *b = right;
  if (a->scaled != b->scaled) return a->scaled > b->scaled ? -1 : 1;
  return a->id < b->id ? -1 : a->id > b->id;
}

// Rank the tokens of a bucket, if they are not just now.
static void rank(Row *row, int32_t bucket) {
  if (row->ranked_bucket == bucket) return;
  row->ranked_bucket = bucket;
  int32_t count = 0, in_order = 1;
  for (int32_t i = 0; i < row->candidate_count; i++) {
    const int32_t id = row->ids[i];
    if (bucket_of(row, id) != bucket) continue;
    row->ranked[count] = (Ranked){row->scaled[id], id};
    if (count && row->ranked[count - 1].scaled < row->scaled[id]) in_order = 0;
    count++;
  }
  if (!in_order) qsort(row->ranked, (size_t)count, sizeof(Ranked), by_rank);
}

static double weight_at(const Row *row, int32_t place) { return row->weights[row->ranked[place].id]; }

// The first ``count`` tokens of the ranking, or as many as begin before ``mass``.
static Prefix first_tokens(Row *row, int32_t count, double mass) {
  Prefix prefix = {0, 0.0};
  for (int32_t bucket = 0; bucket < BUCKETS; bucket++) {
    if (prefix.count >= count || prefix.mass >= mass) break;
    const int32_t end = prefix.count + row->counts[bucket];
    if (end <= count && prefix.mass + row->masses[bucket] < mass) {
      prefix = (Prefix){end, prefix.mass + row->masses[bucket]};
      continue;
    }
    rank(row, bucket);
    for (int32_t i = 0; i < row->counts[bucket]; i++, prefix.count++) {
      if (prefix.count >= count || prefix.mass >= mass) break;
      prefix.mass += weight_at(row, i);
    }
  }
  return prefix;
}

static int32_t count_above(const Row *row, float least) {
  int32_t count = 0;
  for (int32_t i = 0; i < row->candidate_count; i++) count += row->scaled[row->ids[i]] >= least;
  return count;
}

// Whether all tokens that the bounds keep are among the candidates, which are up to ``distance``
// below the highest.
static int has_all_kept(const Row *row, const Draw *draw, float distance) {
  if (row->candidate_count >= row->vocabulary) return 1;
  if (draw->top_k > 0) return row->candidate_count >= draw->top_k;
  if (draw->floor > 1.0f - distance) return 1;
  if (draw->top_p >= 1.0) return 0;
  double mass = 0.0;
  for (int32_t bucket = 0; bucket < BUCKETS; bucket++) mass += row->masses[bucket];
  return mass >= draw->top_p * row->total;
}

// Gather the tokens that the bounds keep, or all that have a weight.
static void gather_kept(Row *row, const Draw *draw) {
  for (int32_t i = 0; i < DISTANCES; i++) {
    gather(row, kDistances[i]);
    if (has_all_kept(row, draw, kDistances[i])) return;
  }
}

// The tokens of the ranking that the bounds keep; one at least.
static Prefix kept_tokens(Row *row, const Draw *draw) {
  const int32_t top_k = draw->top_k > 0 ? draw->top_k : INT32_MAX;
  Prefix kept = first_tokens(row, top_k, INFINITY);
  if (draw->top_p < 1.0) {
    const double mass = draw->top_k > 0 ? kept.mass : row->total;
    kept = first_tokens(row, kept.count, draw->top_p * mass);
  }
  if (draw->floor > -INFINITY) {
    const int32_t above = count_above(row, row->highest + draw->floor);
    if (above < kept.count) kept = first_tokens(row, above, INFINITY);
  }
  return kept.count ? kept : first_tokens(row, 1, INFINITY);
}

// The token at a share of the mass of the kept ones.
static int32_t by_ranking(Row *row, Prefix kept, double share) {
  const double target = share * kept.mass;
  Prefix prefix = {0, 0.0};
  int32_t found = -1;
  for (int32_t bucket = 0; bucket < BUCKETS && prefix.count < kept.count; bucket++) {
    const int32_t end = prefix.count + row->counts[bucket];
    if (end < kept.count && prefix.mass + row->masses[bucket] <= target) {
      prefix = (Prefix){end, prefix.mass + row->masses[bucket]};
      continue;
    }
    rank(row, bucket);
    for (int32_t i = 0; i < row->counts[bucket] && prefix.count < kept.count; i++, prefix.count++) {
      if (weight_at(row, i) > 0.0) found = row->ranked[i].id;
      prefix.mass += weight_at(row, i);
      if (prefix.mass > target) return found;
    }
  }
  return found;
}

// A row

static int32_t draw_token(Row *row, const Draw *draw) {
  scale(row, draw->logits, draw->temperature);
  if (!isfinite(row->highest)) return -1;
  weigh(row);
  if (!(row->total > 0.0)) return -1;
  if (draw->top_k <= 0 && draw->top_p >= 1.0 && draw->floor == -INFINITY) {
    return by_id(row, draw->share * row->total);
  }
  gather_kept(row, draw);
  return by_ranking(row, kept_tokens(row, draw), draw->share);
}

static void draw_some(void *argument, Pool *pool, int32_t thread) {
  Drawing *drawing = argument;
  (void)pool;
  Row row = row_in(drawing->memory + thread * row_memory(drawing->vocabulary), drawing->vocabulary);
  for (;;) {
    const int32_t i = atomic_fetch_add_explicit(&drawing->next, 1, memory_order_relaxed);
    if (i >= drawing->count) return;
    drawing->tokens[i] = draw_token(&row, &drawing->draws[i]);
  }
}

int64_t draw_memory(int32_t threads, int32_t vocabulary) { return threads * row_memory(vocabulary); }

void draw_tokens(Pool *pool, const Draw *draws, int32_t count, int32_t vocabulary, void *memory,
                 int32_t *tokens) {
  Drawing drawing = {draws, count, vocabulary, memory, tokens, 0};
  if (count > 1) pool_run(pool, draw_some, &drawing);
  else draw_some(&drawing, pool, 0);
}
