/** Children of this thread that are not held, or not any more, and whose end somebody waits for. */

import type { Tid } from '../base/brand.ts';
import type { WaitStatus } from '../sys/wait.ts';

const answers = new Map<Tid, (status: WaitStatus) => void>();

/** Has what a child tells answered by a function, whoever is told of it. It takes an end away itself. */
export function expect(tid: Tid, answer: (status: WaitStatus) => void): void {
  answers.set(tid, answer);
}

/** Forgets a child of {@link expect}. */
export function expectNoMore(tid: Tid): void {
  answers.delete(tid);
}

/** Whether somebody answers what a child tells. */
export function isExpected(tid: Tid): boolean {
  return answers.has(tid);
}

/** Whether anybody is expected. */
export function expectsAnybody(): boolean {
  return answers.size > 0;
}

/** Has what a child has told answered. @returns false when nobody expects it */
export function answerExpected(tid: Tid, status: WaitStatus): boolean {
  const answer = answers.get(tid);
  answer?.(status);
  return answer !== undefined;
}
