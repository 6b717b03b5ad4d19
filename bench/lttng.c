/* work() with a tracepoint of LTTng-UST in front: the same two arguments. */

#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng-tracepoint.h"

__attribute__((noinline, aligned(64))) uint64_t work_traced(uint64_t a, uint64_t b) {
  lttng_ust_tracepoint(trapline_bench, work, a, b);
  __asm__ volatile("" ::"r"(__builtin_frame_address(0)));
  return 3 * a + b;
}
