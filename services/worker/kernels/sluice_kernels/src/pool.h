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

// Wait, within a job, until all threads have come here.
void pool_meet(Pool *pool);
