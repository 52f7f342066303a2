// Threads wait for each other by spinning for a while, since a phase takes microseconds and being
// woken takes tens of them; then they sleep, since the core may be what the other waits for.

#define _GNU_SOURCE
#include "pool.h"

#include <immintrin.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

// A pause takes 40 to 140 cycles, so this is some 50 microseconds.
#define SPINS 2000

// A word that counts up and is waited for. ``sleepers`` wait asleep, in the kernel.
typedef struct {
  _Alignas(64) atomic_uint count;
  atomic_int sleepers;
} Bell;

typedef struct {
  Pool *pool;
  int32_t number;
  pthread_t thread;
} Member;

struct Pool {
  int32_t threads;
  Bell start, progress;
  _Alignas(64) atomic_int ended;  // threads that have ended the job
  Job job;
  void *argument;
  Member *members;
};

static void bell_ring(Bell *bell) {
  atomic_fetch_add(&bell->count, 1);
  if (atomic_load(&bell->sleepers)) {
    syscall(SYS_futex, &bell->count, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
  }
}

static void bell_sleep(Bell *bell, unsigned seen) {
  syscall(SYS_futex, &bell->count, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

// Return when the bell's count is no longer ``seen``.
static void bell_wait(Bell *bell, unsigned seen) {
  for (int32_t i = 0; i < SPINS; i++) {
    if (atomic_load_explicit(&bell->count, memory_order_acquire) != seen) return;
    _mm_pause();
  }
  atomic_fetch_add(&bell->sleepers, 1);
  while (atomic_load(&bell->count) == seen) bell_sleep(bell, seen);
  atomic_fetch_sub(&bell->sleepers, 1);
}

// Add ``count`` to what is done, and tell those who wait if that was the last of it.
static void note(Pool *pool, atomic_int *done, int32_t count, int32_t total) {
  if (count && atomic_fetch_add(done, count) + count == total) bell_ring(&pool->progress);
}

static void *member_run(void *argument) {
  Member *member = argument;
  Pool *pool = member->pool;
  for (unsigned seen = 0;; seen++) {
    bell_wait(&pool->start, seen);
    if (!pool->job) return NULL;
    pool->job(pool->argument, pool, member->number);
    note(pool, &pool->ended, 1, pool->threads);  // the caller alone waits for all
  }
}

Pool *pool_open(int32_t threads) {
  Pool *pool = aligned_alloc(64, (sizeof(Pool) + 63) / 64 * 64);
  if (!pool) return NULL;
  *pool = (Pool){.threads = 1};
  pool->members = calloc((size_t)threads, sizeof(Member));
  for (int32_t i = 1; pool->members && i < threads; i++) {
    Member *member = &pool->members[i];
    *member = (Member){pool, i, 0};
    if (pthread_create(&member->thread, NULL, member_run, member)) break;
    pool->threads++;
  }
  if (pool->threads == threads) return pool;
  pool_close(pool);
  return NULL;
}

void pool_close(Pool *pool) {
  pool->job = NULL;
  bell_ring(&pool->start);
  for (int32_t i = 1; i < pool->threads; i++) pthread_join(pool->members[i].thread, NULL);
  free(pool->members);
  free(pool);
}

int32_t pool_threads(const Pool *pool) { return pool->threads; }

void pool_run(Pool *pool, Job job, void *argument) {
  pool->job = job;
  pool->argument = argument;
  atomic_store(&pool->ended, 0);
  if (pool->threads > 1) bell_ring(&pool->start);
  job(argument, pool, 0);
  pool_await(pool, &pool->ended, 1, pool->threads);
}

void pool_await(Pool *pool, atomic_int *done, int32_t count, int32_t total) {
  note(pool, done, count, total);
  for (int32_t i = 0; i < SPINS; i++) {
    if (atomic_load_explicit(done, memory_order_acquire) == total) return;
    _mm_pause();
  }
  Bell *bell = &pool->progress;
  atomic_fetch_add(&bell->sleepers, 1);
  for (;;) {
    const unsigned seen = atomic_load(&bell->count);
    if (atomic_load(done) == total) break;
    bell_sleep(bell, seen);
  }
  atomic_fetch_sub(&bell->sleepers, 1);
}
