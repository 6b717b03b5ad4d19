import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Collector } from '../../../src/session/reading/collector.ts';
import { Retiring } from '../../../src/session/reading/retiring.ts';
import type { TracerClient } from '../../../src/session/tracer-client.ts';

interface Steps {
  /** What has been read to its end at each look, in order; the last while nothing is left. */
  readonly finished: readonly (readonly number[])[];
  readonly fails?: boolean;
}

/** A session whose reader gets so far at each look. @returns what was done, in order, when all has been */
async function retire({ finished, fails = false }: Steps): Promise<string[]> {
  const done: string[] = [];
  let look = 0;
  // What retires keeps nobody from exiting.
  const awake = setInterval(() => {}, 1000);
  return new Promise<string[]>((resolve) => {
    const collector = {
      takeFinished: () => finished[look++] ?? [],
      get isRetiring() {
        if (look === finished.length) setImmediate(() => resolve(done));
        return look < finished.length;
      },
    } as unknown as Collector; // nothing else of it is asked
    const client = {
      call: async (method: string, sources: readonly number[]) => {
        done.push(`${method} ${sources.join(' ')}`);
        if (fails) throw new Error('it has ended');
      },
    } as unknown as TracerClient; // as above
    const retiring = new Retiring({
      client,
      collector,
      forget: async (sources) => void done.push(`forget ${sources.join(' ')}`),
      failed: (error) => {
        done.push(String(error));
        resolve(done);
      },
    });
    retiring.soon();
    retiring.soon();
  }).finally(() => clearInterval(awake));
}

test('sources that were read to their end are let go, when nothing looks at them any more', async () => {
  assert.deepEqual(await retire({ finished: [[], [1, 2], [], [3]] }), [
    'forget 1 2',
    'retire 1 2',
    'forget 3',
    'retire 3',
  ]);
});

test('what goes wrong is told', async () => {
  assert.deepEqual(await retire({ finished: [[4]], fails: true }), [
    'forget 4',
    'retire 4',
    'Error: it has ended',
  ]);
});
