/** Waiting for something slow, and saying so on a terminal. */

import { Progress } from '../screen/progress.ts';

/** Waits for `work`; on a terminal a line says what is waited for, once it takes over a second. */
export async function waitingFor<T>(label: string, work: Promise<T>): Promise<T> {
  const progress = new Progress(label);
  try {
    return await work;
  } finally {
    progress[Symbol.dispose]();
  }
}
