/**
 * A whole session, to be killed on its way: probes come, are read, change, and go. Arguments: the
 * target's process id, or `spawn` and a command. The target is the self-checking program.
 */

import assert from 'node:assert/strict';

import { attach, spawn, type Session } from '../../src/index.ts';
import { selfCheck } from './cli-support.ts';

const path = selfCheck();
const probes = [`work_step@${path} a=%di:s64 b=%si:s64`, `text_length@${path} text=+0(%di):string`];
const wanted = 20;

async function readSome(session: Session): Promise<void> {
  let count = 0;
  for await (const batch of session.batches()) {
    count += batch.count;
    if (count >= wanted) return;
  }
}

const [, , first = '', ...rest] = process.argv;
await using session = await (first === 'spawn'
  ? spawn(rest, { probes })
  : attach({ pids: [Number(first)] }, { probes }));
await readSome(session);
const added = await session.add('malloc@libc.so.6 size=%di:u64');
await readSome(session);
await session.remove(added);
const { kept } = await session.stop();
assert.deepEqual(kept, []);
