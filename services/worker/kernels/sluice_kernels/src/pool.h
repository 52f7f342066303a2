// A team of threads that compute a step together, phase by phase.

#pragma once

#include <stdatomic.h>
#include <stdint.h>

typedef struct Pool Pool;

// What a thread does; ``thread`` counts from 0, which is the caller of pool_run.
typedef void (*Job)(void *argument, Pool *pool, int32_t thread);

// A pool of ``threads``, the caller included; null if the system has no more threads.
Pool *pool_open(int32_t threads);

// End the threads. No job may be running.
void pool_close(Pool *pool);

int32_t pool_threads(const Pool *pool);

// Run a job in all threads; return when all have ended it.
void pool_run(Pool *pool, Job job, void *argument);

// Within a job: add ``count`` to what is ``done`` of ``total``, and wait until all of it is. Not all
// threads need to come here for that: one that the system holds up does not hold up the others.
void pool_await(Pool *pool, atomic_int *done, int32_t count, int32_t total);
