import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { TraplineError } from '../../../src/base/errors.ts';
import {
  descriptorSystem,
  openOutput,
  Output,
  ReaderGone,
  type OutputSystem,
} from '../../../src/cli/output.ts';

function systemError(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** Takes what each step allows: so many bytes, or an error by its name. */
function fake(steps: (number | string)[]): OutputSystem & { taken: number[]; waits: number[] } {
  const taken: number[] = [];
  const waits: number[] = [];
  return {
    taken,
    waits,
    write(bytes, from) {
      const step = steps.shift() ?? Infinity;
      if (typeof step === 'string') throw systemError(step);
      const end = Math.min(bytes.length, from + step);
      taken.push(...bytes.subarray(from, end));
      return end - from;
    },
    wait(milliseconds) {
      waits.push(milliseconds);
      return Promise.resolve();
    },
    close() {},
  };
}

test('short writes and full pipes lose nothing and change no order', async () => {
  const step = fc.oneof(fc.nat(20), fc.constant('EAGAIN'));
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), fc.array(step), async (bytes, steps) => {
      const system = fake(steps);
      await new Output(system, 'x').write(bytes);
      assert.deepEqual(system.taken, [...bytes]);
    }),
  );
});

test('a full pipe is waited for, longer each time, within bounds; progress begins anew', async () => {
  const again: string[] = Array.from({ length: 7 }, () => 'EAGAIN');
  const system = fake([...again, 1, 'EAGAIN']);
  await new Output(system, 'x').write(Uint8Array.of(1, 2));
  assert.deepEqual(system.waits, [1, 2, 4, 8, 16, 32, 32, 1]);
});

test('a reader that went away is an end of its own kind', async () => {
  for (const code of ['EPIPE', 'EIO']) {
    await assert.rejects(new Output(fake([code]), 'x').write(Uint8Array.of(1)), ReaderGone);
  }
});

test('other errors name the file', async () => {
  await assert.rejects(
    new Output(fake(['ENOSPC']), '/tmp/x').write(Uint8Array.of(1)),
    (error: unknown) =>
      error instanceof TraplineError &&
      error.errno === 'ENOSPC' &&
      error.message.includes('/tmp/x'),
  );
});

test('a file is emptied, written and closed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-cli-'));
  try {
    const path = join(folder, 'events');
    for (const text of ['the longer text', 'short']) {
      using output = openOutput(path);
      await output.write(Buffer.from(text));
    }
    assert.equal(readFileSync(path, 'utf8'), 'short');
    assert.throws(() => openOutput(join(folder, 'no', 'events')), TraplineError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a non-blocking pipe that is full is written to the end, until its reader goes', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-cli-'));
  const path = join(folder, 'pipe');
  try {
    assert.equal(spawnSync('mkfifo', [path]).status, 0);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    const system = descriptorSystem(writer);
    let waits = 0;
    const read = { bytes: 0 };
    const drain = new Socket({ fd: reader, readable: true, writable: false });
    drain.pause();
    drain.on('data', (bytes) => {
      read.bytes += bytes.length;
    });
    const counting = {
      ...system,
      wait: (milliseconds: number): Promise<void> => {
        waits++;
        drain.resume();
        return system.wait(milliseconds);
      },
    };
    using output = new Output(counting, path);
    const size = 1 << 19; // eight times what a pipe holds
    await output.write(Buffer.alloc(size, 'x'));
    assert.ok(waits > 0, 'the pipe was never full');
    while (read.bytes < size) await once(drain, 'data');
    assert.equal(read.bytes, size);
    drain.destroy();
    await once(drain, 'close');
    await assert.rejects(output.write(Uint8Array.of(1)), ReaderGone);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
