/*
 * Does one thing many times, and prints how many microseconds each took: `follow WHAT COUNT`, with WHAT one of fork, exec,
 * thread, signal. Before the first, 50 are made that are not measured.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM 50

__attribute__((noipa)) long work(long n) { return n * 17 + 1; }

static char *self;

static void hears(int signal) { (void)signal; }

static void *runs(void *unused) { return unused; }

static void once(const char *what) {
  pthread_t thread;
  pid_t child;
  if (strcmp(what, "signal") == 0) {
    raise(SIGUSR1);
  } else if (strcmp(what, "thread") == 0) {
    pthread_create(&thread, NULL, runs, NULL);
    pthread_join(thread, NULL);
  } else {
    if ((child = fork()) == 0) {
      if (strcmp(what, "exec") == 0) execl(self, self, (char *)NULL);
      _exit(0);
    }
    waitpid(child, NULL, 0);
  }
}

int main(int argc, char **argv) {
  struct timespec began, ended;
  self = argv[0];
  if (argc < 3) return work(1) == 18 ? 0 : 1;
  signal(SIGUSR1, hears);
  long count = atol(argv[2]);
  for (long i = 0; i < WARM; i++) once(argv[1]);
  clock_gettime(CLOCK_MONOTONIC, &began);
  for (long i = 0; i < count; i++) once(argv[1]);
  clock_gettime(CLOCK_MONOTONIC, &ended);
  double passed = (ended.tv_sec - began.tv_sec) * 1e6 + (ended.tv_nsec - began.tv_nsec) / 1e3;
  printf("%.3f\n", passed / count);
  return 0;
}
