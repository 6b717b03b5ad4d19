/*
 * work() for gdb's fast tracepoints, which replace one instruction of at least 5 bytes: the first one here is a
 * move of a constant. The result needs it, so nothing comes before it.
 */

#include <stdint.h>

__attribute__((noinline, aligned(64))) uint64_t work_traced(uint64_t a, uint64_t b) {
  uint64_t three;
  __asm__ volatile("movl $3, %k0" : "=a"(three));
  return three * a + b;
}
