import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as fc from 'fast-check';

import { address, pid, tid } from '../../../src/base/brand.ts';
import { TraplineError } from '../../../src/base/errors.ts';
import { DEFAULT_REACH, findFreeAway, findFreeNear } from '../../../src/process/free-space.ts';
import { findMapping, parseMaps, readMaps, type MemoryMapping } from '../../../src/process/maps.ts';
import {
  listStrangers,
  listTasks,
  mapNamespaceTasks,
  parseStatus,
  readTaskStatus,
} from '../../../src/process/tasks.ts';

const sample = `00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/a name (deleted)
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
7f0000000000-7f0000001000 rw-s 00000000 00:01 4611686018427387905 /memfd:x\\012y (deleted)
7f0000002000-7f0000003000 ---p 00000000 00:00 0 
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
`;

test('lines of maps are parsed', () => {
  const [text, heap, shared, guard, stack, last] = parseMaps(sample);
  assert.deepEqual(text, {
    start: 0x400000n,
    end: 0x452000n,
    readable: true,
    writable: false,
    executable: true,
    shared: false,
    offset: 0x1000n,
    device: '08:02',
    inode: 173521n,
    path: '/usr/bin/a name',
    deleted: true,
  });
  assert.deepEqual([heap?.path, heap?.writable], ['[heap]', true]);
  assert.deepEqual(
    [shared?.shared, shared?.inode, shared?.path, shared?.deleted],
    [true, 4_611_686_018_427_387_905n, '/memfd:x\ny', true],
  );
  assert.deepEqual([guard?.path, guard?.readable, guard?.inode], ['', false, 0n]);
  assert.equal(stack?.path, '[stack]');
  assert.equal(last?.start, 0xffffffffff600000n);
  for (const line of ['x', '1-2 rwxp 0 0:0', '1-2 rwxz 0 00:00 0']) {
    assert.throws(() => parseMaps(line), TraplineError);
  }
  assert.deepEqual(parseMaps(''), []);
});

test('our own maps hold our own memory, and searching finds each line', () => {
  const maps = readMaps(pid(process.pid));
  assert.ok(maps.some((mapping) => mapping.path === process.execPath && mapping.executable));
  for (const mapping of maps) {
    assert.equal(findMapping(maps, mapping.start), mapping);
    assert.equal(findMapping(maps, address(mapping.end - 1n)), mapping);
  }
  assert.equal(findMapping(maps, address(1n)), undefined);
  assert.throws(
    () => readMaps(pid(4_194_304)),
    (error) => error instanceof TraplineError && error.code === 'no-process',
  );
});

test('65,536 mappings are parsed in less than a second', () => {
  const lines = Array.from({ length: 65_536 }, (_, index) => {
    const start = (0x7f0000000000 + index * 8192).toString(16);
    return `${start}-${(0x7f0000001000 + index * 8192).toString(16)} r--p 00000000 08:02 1 /a`;
  });
  const before = performance.now();
  assert.equal(parseMaps(lines.join('\n')).length, 65_536);
  assert.ok(performance.now() - before < 1000);
});

function mapped(start: bigint, end: bigint, path = ''): MemoryMapping {
  const [line] = parseMaps(`${start.toString(16)}-${end.toString(16)} r-xp 0 00:00 0 ${path}`);
  assert.ok(line);
  return line;
}

test('the nearest free pages are found, clear of what grows', () => {
  const text = mapped(0x5000_0000_0000n, 0x5000_0010_0000n);
  const place = (maps: MemoryMapping[], size = 4096): bigint | undefined =>
    findFreeNear(maps, text, size, { minimum: 65_536n });
  assert.equal(place([text]), text.start - 4096n);
  assert.equal(place([mapped(text.start - 0x10000n, text.start), text]), text.end);
  const heap = mapped(text.end, text.end + 0x1000n, '[heap]');
  const below = mapped(text.start - (1n << 33n), text.start);
  assert.equal(place([below, text, heap]), heap.end + (256n << 20n));
  const stack = mapped(text.start - 0x2_0000n, text.start - 0x1_0000n, '[stack]');
  assert.equal(place([stack, text], 0x1_0000), text.start - 0x1_0000n);
  assert.equal(place([stack, text], 0x1_1000), text.end);
  const above = mapped(text.end, text.end + (1n << 33n));
  assert.equal(place([stack, text, above], 0x1_1000), stack.start - (256n << 20n) - 0x1_1000n);
  assert.equal(place([below, text, above]), undefined);
});

test('what is found is free, whole pages, in reach of every byte, and never beyond user space', () => {
  const PAGE = 4096n;
  const pages = fc.bigInt({ min: 16n, max: (1n << 35n) - 2n });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(pages, fc.bigInt({ min: 1n, max: 1n << 19n })), { maxLength: 12 }),
      pages,
      fc.integer({ min: 1, max: 64 << 20 }),
      (raw, at, size) => {
        const target = mapped(at * PAGE, (at + 4n) * PAGE);
        const maps = [target];
        for (const [start, length] of raw) {
          const next = mapped(start * PAGE, (start + length) * PAGE);
          if (maps.every((one) => next.end <= one.start || next.start >= one.end)) maps.push(next);
        }
        maps.sort((a, b) => (a.start < b.start ? -1 : 1));
        const found = findFreeNear(maps, target, size, { minimum: 65_536n });
        if (found === undefined) return;
        const end = found + BigInt(size);
        assert.equal(found % PAGE, 0n);
        assert.ok(found >= 65_536n && end <= (1n << 47n) - PAGE);
        assert.ok(maps.every((one) => end <= one.start || found >= one.end));
        assert.ok(end - target.start <= DEFAULT_REACH && target.end - found <= DEFAULT_REACH);
      },
    ),
  );
});

test('what may be anywhere comes into the middle of the largest free range', () => {
  const program = mapped(0x5555_5555_0000n, 0x5555_5556_0000n);
  const heap = { ...mapped(0x5555_5557_0000n, 0x5555_5559_0000n), path: '[heap]' };
  const library = mapped(0x7fff_f7c0_0000n, 0x7fff_f7e0_0000n);
  const size = 3 * 2 ** 30;
  const found = findFreeAway([program, heap, library], size, 65_536n);
  assert.ok(found !== undefined && found % 4096n === 0n);
  // Below the program there is more room than between its heap and its library.
  const offCentre = (0x1_0000n + 0x5555_5555_0000n) / 2n - (found + BigInt(size) / 2n);
  assert.ok(offCentre >= 0n && offCentre < 4096n);
  assert.equal(findFreeAway([mapped(4096n, (1n << 47n) - 8192n)], 8192, 0n), undefined);
});

test('a status file is parsed, namespaces included', () => {
  const status = parseStatus(
    [
      'Name:\tsome name',
      'State:\tt (tracing stop)',
      'Tgid:\t100',
      'Pid:\t101',
      'TracerPid:\t55',
      'Uid:\t1000\t1001\t1002\t1003',
      'NStgid:\t100\t7',
      'NSpid:\t101\t8',
      'Seccomp:\t2',
      'Seccomp_filters:\t3',
      'NoNewPrivs:\t1',
      'SigIgn:\t0000000000001000',
      'SigCgt:\tffffffff00000001',
      'x86_Thread_features:\tshstk wrss',
    ].join('\n'),
  );
  assert.deepEqual(status, {
    tid: 101,
    pid: 100,
    comm: 'some name',
    state: 't',
    tracerTid: 55,
    realUid: 1000,
    uid: 1001,
    seccomp: 2,
    seccompFilters: 3,
    noNewPrivileges: true,
    ignoredSignals: 0x1000n,
    caughtSignals: 0xffff_ffff_0000_0001n,
    shadowStack: true,
    namespaceTid: 8,
    namespacePid: 7,
    isNamespaceInner: true,
  });
});

test('our own tasks are listed, and nobody else has our memory', () => {
  const own = pid(process.pid);
  const tasks = listTasks(own);
  assert.ok(tasks.includes(tid(process.pid)) && tasks.length > 1);
  assert.equal(readTaskStatus(own)?.pid, own);
  assert.equal(mapNamespaceTasks(own).size, tasks.length);
  assert.deepEqual(listStrangers(own), []);
  assert.deepEqual(listTasks(pid(4_194_304)), []);
  assert.equal(readTaskStatus(pid(4_194_304)), undefined);
});
