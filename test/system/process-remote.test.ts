import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { test } from 'node:test';

import { address } from '../../src/base/brand.ts';
import { TraplineError } from '../../src/base/errors.ts';
import { blobPlaceIsDirty, cleanBlobPlace, findBlobPlace } from '../../src/process/blob-place.ts';
import { readMaps } from '../../src/process/maps.ts';
import { writeCode } from '../../src/process/patch.ts';
import { RemoteBatch } from '../../src/process/remote.ts';
import { findWords } from '../../src/process/stacks.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { assertAlive, assertEndsWell, blobPlaces, startBlocked } from './process-support.ts';

const MMAP = 9;
const MUNMAP = 11;
const GETPID = 39;
const FTRUNCATE = 77;
const CLOSE = 3;
const MEMFD_CREATE = 319;

test('calls are made by the target, in order, with results and data', async () => {
  await using target = await startBlocked();
  const [place] = blobPlaces(target.pid);
  assert.ok(place);
  const before = readMaps(target.pid).length;
  let mapped = 0n;
  {
    using stopped = StoppedProcess.stop(target.pid);
    assert.equal(findBlobPlace(stopped, [place], 1024), place);
    using batch = RemoteBatch.begin(stopped, place);
    const seen: number[] = [];
    let descriptor = 0n;
    const results = batch.run(
      [
        { number: MEMFD_CREATE, arguments: [{ data: Buffer.from('made-inside\0') }, 1n] },
        { number: FTRUNCATE, arguments: [{ result: 0 }, 8192n] },
        { number: MMAP, arguments: [0n, 8192n, 1n, 1n, { result: 0 }, 0n] },
        { number: CLOSE, arguments: [{ result: 0 }] },
        { number: CLOSE, arguments: [{ result: 0 }] },
        { number: GETPID, arguments: [] },
      ],
      (index, result) => {
        seen.push(index);
        if (index === 0) descriptor = result;
        if (index !== 1) return;
        // Between two calls the task is held, and its descriptor can be opened.
        assert.equal(result, 0n);
        const fd = openSync(`/proc/${target.pid}/task/${batch.task.tid}/fd/${descriptor}`, 'r+');
        assert.equal(readSync(fd, Buffer.alloc(8192)), 8192);
        closeSync(fd);
      },
    );
    assert.deepEqual(seen, [0, 1, 2, 3, 4, 5]);
    mapped = results[2] ?? 0n;
    assert.deepEqual(results.slice(3), [0n, -9n, BigInt(target.pid)]);
    assert.ok(blobPlaceIsDirty(stopped, place));
    batch[Symbol.dispose]();
    assert.ok(!blobPlaceIsDirty(stopped, place));
  }
  const maps = readMaps(target.pid);
  const made = maps.find((mapping) => mapping.start === mapped);
  assert.equal(made?.path, '/memfd:made-inside');
  assert.equal(made?.deleted, true);
  assert.ok(maps.length > before);
  await assertAlive(target);
  await assertEndsWell(target);
});

test('a handler that throws leaves the task as it was', async () => {
  await using target = await startBlocked();
  const [place] = blobPlaces(target.pid);
  assert.ok(place);
  {
    using stopped = StoppedProcess.stop(target.pid);
    for (const task of stopped.tasks) {
      const before = task.registers;
      using batch = RemoteBatch.begin(stopped, place, task);
      const calls = [0, 1, 2].map(() => ({ number: GETPID, arguments: [] }));
      const seen: number[] = [];
      const throws = (index: number): void => {
        seen.push(index);
        if (index === 1) throw new Error('enough');
      };
      assert.throws(() => batch.run(calls, throws), /enough/);
      assert.deepEqual(seen, [0, 1]);
      // A signal may have come first; then the task stands at its handler, with less stack.
      if (task.registers.get('rsp') === before.get('rsp')) assert.ok(task.registers.equals(before));
    }
  }
  await assertAlive(target);
  await assertEndsWell(target);
});

test('every task can serve, hundreds of times, and no thread notices', async () => {
  await using target = await startBlocked();
  const [place] = blobPlaces(target.pid);
  assert.ok(place);
  const maps = readMaps(target.pid).length;
  for (let round = 0; round < 200; round++) {
    {
      using stopped = StoppedProcess.stop(target.pid);
      for (let turn = 0; turn < 2; turn++) {
        const task = stopped.tasks[(round * 2 + turn) % stopped.tasks.length];
        using batch = RemoteBatch.begin(stopped, place, task);
        const [mapped, unmapped] = batch.run([
          { number: MMAP, arguments: [0n, 4096n, 3n, 0x22n, -1n, 0n] },
          { number: MUNMAP, arguments: [{ result: 0 }, 4096n] },
        ]);
        assert.ok(mapped !== undefined && mapped > 0n);
        assert.equal(unmapped, 0n);
      }
    }
    if (round % 20 === 19) await assertAlive(target);
  }
  assert.equal(readMaps(target.pid).length, maps);
  await assertAlive(target);
  await assertEndsWell(target);
});

test('what a dead tracer left is found and cleaned', async () => {
  await using target = await startBlocked();
  const [place] = blobPlaces(target.pid);
  assert.ok(place);
  using stopped = StoppedProcess.stop(target.pid);
  stopped.write(place.address, Uint8Array.of(0xeb, 0xfe));
  assert.ok(blobPlaceIsDirty(stopped, place));
  const [task] = stopped.tasks;
  assert.ok(task);
  const registers = task.registers;
  task.setRegisters(registers.copy().set('rip', place.address + 1n));
  assert.equal(cleanBlobPlace(stopped, place), false);
  assert.throws(() => findBlobPlace(stopped, [place], 64), TraplineError);
  task.setRegisters(registers);
  assert.equal(cleanBlobPlace(stopped, place), true);
  assert.ok(!blobPlaceIsDirty(stopped, place));
});

test('code is compared, then written, within one page', async () => {
  await using target = await startBlocked();
  const [place] = blobPlaces(target.pid);
  assert.ok(place);
  {
    using stopped = StoppedProcess.stop(target.pid);
    const original = place.original.subarray(0, 5);
    const jump = Uint8Array.of(0xe9, 1, 2, 3, 4);
    const patch = { address: place.address, expected: original, bytes: jump };
    writeCode(stopped, [patch]);
    assert.deepEqual(stopped.read(place.address, 5), jump);
    assert.throws(() => writeCode(stopped, [patch]), /not 00 00/);
    const back = { address: place.address, expected: jump, bytes: original };
    const behind = { ...patch, address: address(place.address + 5n), expected: jump };
    assert.throws(() => writeCode(stopped, [back, behind]), /not e9 01/);
    assert.deepEqual(
      stopped.read(place.address, 5),
      jump,
      'one that is wrong, and none is written',
    );
    writeCode(stopped, [back]);
    const pageEnd = address((place.address | 0xfffn) - 1n);
    const across = { address: pageEnd, expected: jump, bytes: jump };
    assert.throws(() => writeCode(stopped, [across]), /end of a page/);
  }
  await assertAlive(target);
});

test('stack words are found where the target has them', async () => {
  await using target = await startBlocked();
  {
    using stopped = StoppedProcess.stop(target.pid);
    const maps = stopped.maps();
    const path = readFileSync(`/proc/${target.pid}/comm`, 'latin1').trim();
    const text = maps.find((mapping) => mapping.executable && mapping.path.endsWith(path));
    assert.ok(text);
    const found = findWords(stopped, [text], maps);
    // Every thread was called from the program's own code; main from libc, with frames below.
    assert.ok(new Set(found.map((word) => word.tid)).size >= stopped.tasks.length - 1);
    for (const word of found.slice(0, 100)) {
      const bytes = Buffer.from(stopped.read(word.stackAddress, 8));
      assert.equal(bytes.readBigUInt64LE(), word.value);
      assert.ok(word.value >= text.start && word.value < text.end);
    }
    assert.deepEqual(findWords(stopped, [], maps), []);
  }
  await assertAlive(target);
});
