/*
 * Two processes in one memory: a parent that waits in vfork for a child that reads a line, or, with
 * `clone`, one that made a child by CLONE_VM and waits for it in waitpid. Ends with the child's 7.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[65536] __attribute__((aligned(16)));

static int child(void *unused) {
  char byte;
  (void)unused;
  if (read(0, &byte, 1) != 1) _exit(1);
  _exit(7);
}

int main(int count, char **arguments) {
  int status;
  if (count > 1) {
    int made = clone(child, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    printf("%s %d\n", arguments[1][0] == 'c' ? "cloned" : "?", made);
    fflush(stdout);
  } else {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (vfork() == 0) {
      (void)!write(1, "vforked\n", 8);
      child(NULL);
    }
  }
  while (wait(&status) < 0)
    ;
  return WEXITSTATUS(status);
}
