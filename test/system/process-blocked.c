/*
 * A program that is stopped, made to do other things and let go again, and checks all the while that
 * it notices nothing: one thread for each way to wait in the kernel, and two that compute.
 *
 *   process-blocked [interrupted]
 *
 * With `interrupted`, an EINTR from epoll_wait is no error (a tracer may die at any instant; SIGSTOP and
 * SIGCONT have the same effect), and the threads that compute rest more, for the sake of a machine
 * with few processors. Output: `ready` once; after each line `check` on standard input either
 * `alive` when every thread has got ahead, or `stuck NAME`. `quit` prints `ok` and ends with 0. Whatever
 * is wrong prints `bad …` and ends with 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int interrupted_is_fine;

static void bad(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("bad ");
  vprintf(format, arguments);
  printf("\n");
  fflush(stdout);
  _exit(1);
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ll + time.tv_nsec;
}

enum { BUSY, STORM, SLEEP, READ, FUTEX, POLL, EPOLL, PAUSE, SUSPEND, KINDS };
static const char *names[KINDS] = {"busy", "storm", "sleep", "read", "futex",
                                   "poll", "epoll", "pause", "suspend"};
static volatile long rounds[KINDS];

/* Sets every general register but rsp and the arithmetic flags, waits, and looks at them again. */
static long registers_kept(long seed, long turns) {
  long wrong;
  __asm__ volatile(
      "push %%rbx\n push %%rbp\n push %%rdi\n push %%rsi\n"
      "mov %%rdi, %%rbx\n lea 1(%%rdi), %%rbp\n lea 2(%%rdi), %%r8\n lea 3(%%rdi), %%r9\n"
      "lea 4(%%rdi), %%r10\n lea 5(%%rdi), %%r11\n lea 6(%%rdi), %%r12\n lea 7(%%rdi), %%r13\n"
      "lea 8(%%rdi), %%r14\n lea 9(%%rdi), %%r15\n lea 10(%%rdi), %%rdx\n movq %%rdi, %%xmm7\n"
      "movq %%rsi, %%rcx\n"
      "mov $0x8000, %%eax\n"
      /* Each turn: SF, CF and OF set by 0x80 + 0x80 and kept by what follows. */
      "1: mov $0x7fffffffffffffff, %%rax\n add $1, %%rax\n"
      "lea -1(%%rcx), %%rcx\n"
      "jno 8f\n jns 8f\n jc 8f\n jz 8f\n"
      "stc\n jnc 8f\n"
      "jrcxz 2f\n jmp 1b\n"
      "2: cmp %%rdi, %%rbx\n jne 8f\n sub $1, %%rbp\n cmp %%rdi, %%rbp\n jne 8f\n"
      "sub $2, %%r8\n cmp %%rdi, %%r8\n jne 8f\n sub $3, %%r9\n cmp %%rdi, %%r9\n jne 8f\n"
      "sub $4, %%r10\n cmp %%rdi, %%r10\n jne 8f\n sub $5, %%r11\n cmp %%rdi, %%r11\n jne 8f\n"
      "sub $6, %%r12\n cmp %%rdi, %%r12\n jne 8f\n sub $7, %%r13\n cmp %%rdi, %%r13\n jne 8f\n"
      "sub $8, %%r14\n cmp %%rdi, %%r14\n jne 8f\n sub $9, %%r15\n cmp %%rdi, %%r15\n jne 8f\n"
      "sub $10, %%rdx\n cmp %%rdi, %%rdx\n jne 8f\n"
      "movq %%xmm7, %%rax\n cmp %%rdi, %%rax\n jne 8f\n"
      "xor %%eax, %%eax\n jmp 9f\n"
      "8: mov $1, %%eax\n"
      "9: pop %%rsi\n pop %%rdi\n pop %%rbp\n pop %%rbx\n"
      : "=a"(wrong)
      : "D"(seed), "S"(turns)
      : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm7", "memory", "cc");
  return wrong == 0;
}

static void *busy(void *argument) {
  long kind = (long)argument;
  for (long round = 0;; round++) {
    if (!registers_kept(0x123456789abcdef0 + round, 20000)) bad("%s: registers", names[kind]);
    if (++rounds[kind] % 8 == 0) usleep(interrupted_is_fine ? 2000 : 200);
  }
}

static volatile long storm_hits;
static void on_storm(int signal, siginfo_t *info, void *context) {
  if (signal != SIGRTMIN || info->si_code != SI_TIMER) bad("storm: signal %d", signal);
  storm_hits++;
}

static void start_timer(int signal, long nanoseconds) {
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signal};
  event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
  timer_t timer;
  struct itimerspec every = {{0, nanoseconds}, {0, nanoseconds}};
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &every, NULL))
    bad("timer");
}

/* Queued signals neither merge nor pass each other: each number must follow the last. */
static pthread_t queue_target;
static volatile int queue_open;
static volatile int queued;
static void on_queued(int signal, siginfo_t *info, void *context) {
  if (signal != SIGRTMIN + 1 || info->si_code != SI_QUEUE || info->si_pid != getpid())
    bad("queue: signal %d code %d", signal, info->si_code);
  if (info->si_value.sival_int != queued + 1)
    bad("queue: %d after %d", info->si_value.sival_int, queued);
  queued++;
}

static void *sender(void *argument) {
  while (!queue_open) usleep(100);
  for (int number = 1;; number++) {
    union sigval value = {.sival_int = number};
    while (pthread_sigqueue(queue_target, SIGRTMIN + 1, value)) usleep(100);
    usleep(interrupted_is_fine ? 1000 : 200);
  }
  return argument;
}

static void *storm(void *argument) {
  struct sigaction queue_action = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGRTMIN + 1, &queue_action, NULL);
  queue_target = pthread_self();
  queue_open = 1;
  struct sigaction action = {.sa_sigaction = on_storm, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGRTMIN, &action, NULL);
  start_timer(SIGRTMIN, 100000);
  return busy(argument);
}

static void *sleeper(void *argument) {
  for (;; rounds[SLEEP]++) {
    int64_t before = now();
    struct timespec time = {0, 3000000};
    if (nanosleep(&time, NULL)) bad("nanosleep: %s", strerror(errno));
    if (now() - before < 3000000) bad("nanosleep: too short");
  }
  return argument;
}

static int pipes[2];
static int polled[2];
static uint32_t word;

static void *feeder(void *argument) {
  for (uint64_t number = 0;; number++) {
    usleep(1500);
    if (write(pipes[1], &number, 8) != 8) bad("write: %s", strerror(errno));
    if (write(polled[1], "x", 1) != 1) bad("write: %s", strerror(errno));
    __atomic_add_fetch(&word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
  }
  return argument;
}

static void *reader(void *argument) {
  for (uint64_t expected = 0;; expected++, rounds[READ]++) {
    uint64_t number;
    long count = read(pipes[0], &number, 8);
    if (count != 8) bad("read: %ld %s", count, strerror(errno));
    if (number != expected) bad("read: %lu for %lu", number, expected);
  }
  return argument;
}

/* A wake may come late, after the word was seen changed: being woken for nothing is no error. */
static void *waiter(void *argument) {
  for (;; rounds[FUTEX]++) {
    uint32_t seen = __atomic_load_n(&word, __ATOMIC_SEQ_CST);
    long result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    if (result != 0 && errno != EAGAIN) bad("futex: %s", strerror(errno));
  }
  return argument;
}

static void *poller(void *argument) {
  for (;; rounds[POLL]++) {
    struct pollfd wanted = {polled[0], POLLIN, 0};
    int result = poll(&wanted, 1, 10000);
    if (result != 1) bad("poll: %d %s", result, strerror(errno));
    char byte;
    if (read(polled[0], &byte, 1) != 1 || byte != 'x') bad("poll: byte");
    int64_t before = now();
    result = poll(NULL, 0, 2);
    if (result != 0) bad("poll: %d %s", result, strerror(errno));
    if (now() - before < 2000000) bad("poll: too short");
  }
  return argument;
}

static void *epoller(void *argument) {
  int epoll = epoll_create1(0);
  for (;; rounds[EPOLL]++) {
    struct epoll_event event;
    int64_t before = now();
    int result = epoll_wait(epoll, &event, 1, 4);
    if (result < 0 && errno == EINTR && interrupted_is_fine) continue;
    if (result != 0) bad("epoll_wait: %d %s", result, strerror(errno));
    if (now() - before < 3900000) bad("epoll_wait: too short");
  }
  return argument;
}

static volatile long alarms;
static void on_alarm(int signal) {
  (void)signal;
  alarms++;
}

static void *pauser(void *argument) {
  signal(SIGUSR1, on_alarm);
  start_timer(SIGUSR1, 10000000);
  for (;; rounds[PAUSE]++) {
    long before = alarms;
    if (pause() != -1 || errno != EINTR) bad("pause: %s", strerror(errno));
    if (alarms == before) bad("pause: no handler ran");
  }
  return argument;
}

static volatile long suspended;
static void on_suspended(int signal) {
  (void)signal;
  suspended++;
}

/* The signal is blocked but for the wait itself: a lost interruption would be waited for in vain. */
static void *suspender(void *argument) {
  sigset_t blocked, open;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &blocked, &open);
  sigdelset(&open, SIGUSR2);
  signal(SIGUSR2, on_suspended);
  start_timer(SIGUSR2, 7000000);
  for (;; rounds[SUSPEND]++) {
    long before = suspended;
    if (sigsuspend(&open) != -1 || errno != EINTR) bad("sigsuspend: %s", strerror(errno));
    if (suspended != before + 1) bad("sigsuspend: %ld handlers ran", suspended - before);
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (!sigismember(&mask, SIGUSR2) || sigismember(&mask, SIGHUP)) bad("sigsuspend: mask");
  }
  return argument;
}

/** Waits until every thread has made a round since the call. */
static const char *all_progress(void) {
  long before[KINDS];
  for (int kind = 0; kind < KINDS; kind++) before[kind] = rounds[kind];
  int64_t deadline = now() + 30000000000ll;
  for (int kind = 0; kind < KINDS; kind++)
    while (rounds[kind] == before[kind]) {
      if (now() > deadline) return names[kind];
      usleep(500);
    }
  return NULL;
}

int main(int count, char **arguments) {
  interrupted_is_fine = count > 1 && strcmp(arguments[1], "interrupted") == 0;
  if (pipe(pipes) || pipe(polled)) bad("pipe");
  void *(*starts[KINDS])(void *) = {busy, storm, sleeper, reader, waiter,
                                    poller, epoller, pauser, suspender};
  pthread_t thread;
  for (long kind = 0; kind < KINDS; kind++)
    if (pthread_create(&thread, NULL, starts[kind], (void *)kind)) bad("thread");
  if (pthread_create(&thread, NULL, feeder, NULL)) bad("thread");
  if (pthread_create(&thread, NULL, sender, NULL)) bad("thread");
  const char *stuck = all_progress();
  if (stuck) bad("stuck at the start: %s", stuck);
  printf("ready\n");
  fflush(stdout);
  char line[64];
  while (fgets(line, sizeof line, stdin)) {
    if (strcmp(line, "quit\n") == 0) {
      if (storm_hits == 0) bad("storm: no signal");
      if (queued == 0) bad("queue: no signal");
      printf("ok\n");
      return 0;
    }
    const char *name = all_progress();
    if (name) printf("stuck %s\n", name);
    else printf("alive\n");
    fflush(stdout);
  }
  return 2;
}
