/*
 * What a probe would be if it were written into the program by hand: the measure of the jump engine's
 * stubs. A record is 32 bytes: header, time stamp counter, two arguments; the ring belongs to the
 * thread; a full ring is found out and counted, by the same check as in a stub.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RING_BYTES = 1 << 20, RECORD_BYTES = 32 };

struct ring {
  _Alignas(64) _Atomic uint64_t tail; /* written by the reader */
  _Alignas(64) uint64_t head;         /* written by this thread; of the next record */
  uint64_t hits, full;
  _Alignas(4096) unsigned char bytes[RING_BYTES];
};

/* Not in the thread's own memory: that lies on the stack, which tracers read through when they stop it. */
static _Thread_local struct ring *hand_ring;

static inline uint64_t read_clock(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

static inline void record(uint64_t a, uint64_t b) {
  struct ring *ring = hand_ring;
  ring->hits++;
  uint64_t head = ring->head;
  if (head + RECORD_BYTES - __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) > RING_BYTES) {
    ring->full++;
    return;
  }
  ring->head = head + RECORD_BYTES;
  uint64_t *words = (uint64_t *)(ring->bytes + (head & (RING_BYTES - 1)));
  words[1] = read_clock();
  words[2] = a;
  words[3] = b;
  __atomic_store_n(&words[0], head / 8 | (uint64_t)1 << 32, __ATOMIC_RELEASE);
}

/* The body is that of work() in target.c, so that the one difference is what stands in front. */

__attribute__((noinline, aligned(64))) uint64_t work_recorded(uint64_t a, uint64_t b) {
  record(a, b);
  __asm__ volatile("" ::"r"(__builtin_frame_address(0)));
  return 3 * a + b;
}

__attribute__((noinline, aligned(64))) uint64_t work_counted(uint64_t a, uint64_t b) {
  /* In memory at every call, as a stub's counter is. */
  *(volatile uint64_t *)&hand_ring->hits += 1;
  __asm__ volatile("" ::"r"(__builtin_frame_address(0)));
  return 3 * a + b;
}

struct ring *hand_ring_of_thread(void) {
  hand_ring = aligned_alloc(4096, sizeof *hand_ring);
  memset(hand_ring, 0, sizeof *hand_ring);
  return hand_ring;
}

/* Reads all records as a reader would, gives their room back, and answers how many there were. */
uint64_t hand_drain(struct ring *ring, uint64_t *full) {
  uint64_t records = 0, sum = 0;
  uint64_t at = ring->tail;
  for (; at < __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE); at += RECORD_BYTES, records++) {
    const uint64_t *words = (const uint64_t *)(ring->bytes + (at & (RING_BYTES - 1)));
    sum += words[0] + words[1] + words[2] + words[3];
  }
  __asm__ volatile("" ::"r"(sum)); /* not optimised away */
  __atomic_store_n(&ring->tail, at, __ATOMIC_RELEASE);
  *full += ring->full;
  ring->full = 0;
  return records;
}
