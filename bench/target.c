/*
 * The program that is measured. Commands on standard input, one answer each on standard output:
 *
 *     run FUNCTION THREADS CALLS    calls the function so often in each of the threads
 *         -> ns X                   processor time of a call, in nanoseconds: the mean of the threads
 *            records N full M       for work_recorded: what its rings held, and dropped
 *     flood THREADS MILLISECONDS    calls work() as often as it can
 *         -> calls N
 *     tick MILLISECONDS             calls work() every 50 us
 *         -> ticked
 *
 * FUNCTION: work, recorded, counted; pointed: work() whose second argument is a pointer to `subject`, not 7;
 * traced: where one of the other tools' files is linked in; method_...: where methods.S is. All go through one loop and one pointer, so that
 * the call costs the same. Time is the thread's own processor time: what other programs take of the machine is not in it.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MAX_THREADS = 4 };

typedef uint64_t function(uint64_t, uint64_t);
struct ring;

extern function work_recorded, work_counted;
/* lttng.c or gdb.c */
extern function work_traced __attribute__((weak));
/* methods.S */
extern function method_nop __attribute__((weak));
extern function method_jump __attribute__((weak));
extern function method_jump_several __attribute__((weak));
extern function method_short_jump __attribute__((weak));
extern function method_pun __attribute__((weak));
extern function method_springboard __attribute__((weak));
extern struct ring *hand_ring_of_thread(void);
extern uint64_t hand_drain(struct ring *ring, uint64_t *full);

/*
 * `push %rbp; mov %rsp,%rbp; ...`: what the kernel emulates comes first, what it single-steps second.
 * The one function that every tool probes. Asking for its frame makes the compiler set one up.
 */
__attribute__((noinline, aligned(64))) uint64_t work(uint64_t a, uint64_t b) {
  __asm__ volatile("" ::"r"(__builtin_frame_address(0)));
  return 3 * a + b;
}

/* What pointers lead to: integers that share no cache line, a text of 8 characters and one of 200. */
static struct {
  _Alignas(64) uint64_t integers[32];
  char eight[16];
  char two_hundred[208];
} subject;

/* What commands call functions; those that are not linked in are null. */
static const struct {
  const char *name;
  function *what;
} functions[] = {
    {"work", work},
    {"pointed", work},
    {"recorded", work_recorded},
    {"counted", work_counted},
    {"traced", work_traced},
    {"method_nop", method_nop},
    {"method_jump", method_jump},
    {"method_jump_several", method_jump_several},
    {"method_short_jump", method_short_jump},
    {"method_pun", method_pun},
    {"method_springboard", method_springboard},
};

static function *function_of(const char *name) {
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
    if (strcmp(name, functions[i].name) == 0) return functions[i].what;
  return NULL;
}

struct worker {
  sem_t start, done;
  function *what;
  uint64_t second, calls, nanoseconds;
  int flood;
  struct ring *ring;
};

static struct worker workers[MAX_THREADS];
static _Atomic int missing; /* threads that a run still waits for */
static _Atomic int stop;
static volatile uint64_t sink;

static uint64_t now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

__attribute__((noinline, aligned(64))) static void loop(function *what, uint64_t second,
                                                         uint64_t calls) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < calls; i++) sum += what(i, second);
  sink = sum;
}

static void *serve(void *parameter) {
  struct worker *worker = parameter;
  worker->ring = hand_ring_of_thread();
  sem_post(&worker->done);
  for (;;) {
    sem_wait(&worker->start);
    if (worker->flood) {
      for (worker->calls = 0; !stop; worker->calls += 1000) loop(work, 7, 1000);
    } else {
      /* All begin together. */
      missing--;
      while (missing > 0) sched_yield();
      uint64_t began = now(CLOCK_THREAD_CPUTIME_ID);
      loop(worker->what, worker->second, worker->calls);
      worker->nanoseconds = now(CLOCK_THREAD_CPUTIME_ID) - began;
    }
    sem_post(&worker->done);
  }
  return NULL;
}

static void sleep_microseconds(long microseconds) {
  struct timespec pause = {microseconds / 1000000, microseconds % 1000000 * 1000};
  nanosleep(&pause, NULL);
}

static void run(function *what, uint64_t second, int threads, uint64_t calls) {
  missing = threads;
  for (int i = 0; i < threads; i++) {
    workers[i].what = what;
    workers[i].second = second;
    workers[i].calls = calls;
    workers[i].flood = 0;
    sem_post(&workers[i].start);
  }
  for (int i = 0; i < threads; i++) sem_wait(&workers[i].done);
  double sum = 0;
  for (int i = 0; i < threads; i++) sum += (double)workers[i].nanoseconds / (double)calls;
  printf("ns %.4f", sum / threads);
  if (what == work_recorded) {
    uint64_t records = 0, full = 0;
    for (int i = 0; i < threads; i++) records += hand_drain(workers[i].ring, &full);
    printf(" records %lu full %lu", records, full);
  }
  printf("\n");
}

static void flood(int threads, int milliseconds) {
  stop = 0;
  for (int i = 0; i < threads; i++) {
    workers[i].flood = 1;
    sem_post(&workers[i].start);
  }
  sleep_microseconds(milliseconds * 1000L);
  stop = 1;
  uint64_t calls = 0;
  for (int i = 0; i < threads; i++) {
    sem_wait(&workers[i].done);
    calls += workers[i].calls;
  }
  printf("calls %lu\n", calls);
}

static void tick(int milliseconds) {
  uint64_t until = now(CLOCK_MONOTONIC) + milliseconds * 1000000ull;
  while (now(CLOCK_MONOTONIC) < until) {
    sink = work(sink, 7);
    sleep_microseconds(50);
  }
  puts("ticked");
}

int main(void) {
  for (int i = 0; i < 32; i++) subject.integers[i] = i;
  memset(subject.eight, '8', 8);
  memset(subject.two_hundred, '2', 200);
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 0; i < MAX_THREADS; i++) {
    pthread_t thread;
    sem_init(&workers[i].start, 0, 0);
    sem_init(&workers[i].done, 0, 0);
    if (pthread_create(&thread, NULL, serve, &workers[i]) != 0) return 1;
    sem_wait(&workers[i].done);
  }
  puts("ready");
  char line[200], name[32];
  while (fgets(line, sizeof line, stdin) != NULL) {
    int threads, milliseconds;
    uint64_t calls;
    if (sscanf(line, "run %31s %d %lu", name, &threads, &calls) == 3 && threads <= MAX_THREADS) {
      function *what = function_of(name);
      if (what == NULL) {
        printf("unknown: %s\n", name);
        continue;
      }
      run(what, strcmp(name, "pointed") == 0 ? (uint64_t)&subject : 7, threads, calls);
    } else if (sscanf(line, "flood %d %d", &threads, &milliseconds) == 2 && threads <= MAX_THREADS) {
      flood(threads, milliseconds);
    } else if (sscanf(line, "tick %d", &milliseconds) == 1) {
      tick(milliseconds);
    } else {
      printf("unknown: %s", line);
    }
  }
  return 0;
}
