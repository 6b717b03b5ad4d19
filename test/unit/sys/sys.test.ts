import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { address, pid, tid } from '../../../src/base/brand.ts';
import { TraplineError } from '../../../src/base/errors.ts';
import { addressOf, systemError } from '../../../src/sys/call.ts';
import { monotonicNanoseconds, readClockPair } from '../../../src/sys/clock.ts';
import { hasCapability, ownCredentials } from '../../../src/sys/credentials.ts';
import { demangleCpp, MAX_MANGLED_BYTES } from '../../../src/sys/demangle.ts';
import { sharesMemory } from '../../../src/sys/kcmp.ts';
import { mapMemory, viewMemory } from '../../../src/sys/mapping.ts';
import {
  addSeals,
  closeMemoryFile,
  createMemoryFile,
  getSeals,
  identifyFile,
  Seal,
  splitDevice,
} from '../../../src/sys/memfd.ts';
import { MemoryFile, readRanges } from '../../../src/sys/memory.ts';
import {
  detach,
  getRegisters,
  getSignalMask,
  interrupt,
  seize,
  setRegisters,
  TraceEvent,
} from '../../../src/sys/ptrace.ts';
import { Registers } from '../../../src/sys/registers.ts';
import { FUTEX_OWNER_DIED, LivenessList } from '../../../src/sys/robust.ts';
import { ownTaskId, sendSignal, signalName } from '../../../src/sys/signals.ts';
import { findCommand, spawnHeld } from '../../../src/sys/spawn.ts';
import { decodeInfo, waitFor } from '../../../src/sys/wait.ts';

const folder = mkdtempSync(join(tmpdir(), 'trapline-sys-'));
after(() => rmSync(folder, { recursive: true }));

const own = pid(process.pid);

function failure(action: () => unknown): TraplineError {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof TraplineError, String(error));
    return error;
  }
  return assert.fail('nothing was thrown');
}

test('errors carry the name and the code of an errno', () => {
  assert.equal(systemError('x', 1).code, 'not-permitted');
  assert.equal(systemError('x', 3).code, 'no-process');
  assert.equal(systemError('x', 12).code, 'system');
  assert.equal(systemError('attach to process 9', 1).message, 'cannot attach to process 9: EPERM');
  const gone = failure(() => sendSignal(pid(4_194_304), 0));
  assert.equal(gone.code, 'no-process');
  assert.equal(gone.errno, 'ESRCH');
});

/** What is made of a siginfo_t of task 7. */
function told(code: number, status: number): unknown {
  const info = Buffer.alloc(128);
  info.writeInt32LE(code, 8);
  info.writeInt32LE(7, 16);
  info.writeInt32LE(status, 24);
  return decodeInfo(info);
}

test('what a wait tells is taken apart as the kernel puts it together', () => {
  assert.deepEqual(told(1, 5), { kind: 'exited', tid: 7, code: 5 });
  assert.deepEqual(told(2, 9), { kind: 'signaled', tid: 7, signal: 9 });
  assert.deepEqual(told(3, 11), { kind: 'signaled', tid: 7, signal: 11 });
  const stop = { kind: 'stopped', tid: 7, signal: 5, event: 128, systemCall: false } as const;
  assert.deepEqual(told(5, 0x8005), stop);
  assert.deepEqual(told(4, 0x85), { ...stop, event: 0, systemCall: true });
});

test('process_vm_readv reads several ranges and says how far it came', () => {
  using memory = mapMemory(8192);
  const bytes = new Uint8Array(memory.view);
  bytes.set([1, 2, 3, 4], 0);
  bytes.set([5, 6, 7, 8], 4096);
  const into = new Uint8Array(16);
  const ranges = [
    { address: address(memory.address + 4096n), length: 4 },
    { address: memory.address, length: 4 },
    { address: address(8n), length: 8 },
  ];
  assert.equal(readRanges(own, ranges, into), 8);
  assert.deepEqual([...into.subarray(0, 8)], [5, 6, 7, 8, 1, 2, 3, 4]);
  assert.equal(readRanges(own, ranges.slice(2), into), 0);
  assert.throws(() => readRanges(own, ranges, new Uint8Array(3)), RangeError);
});

test('/proc/PID/mem is read and written at positions above 2^32', () => {
  using memory = mapMemory(4096);
  assert.ok(memory.address > 0xffff_ffffn);
  using file = new MemoryFile(own);
  file.write(address(memory.address + 8n), Uint8Array.of(9, 8, 7));
  assert.deepEqual([...new Uint8Array(memory.view).subarray(7, 12)], [0, 9, 8, 7, 0]);
  memory.protect(1);
  file.write(memory.address, Uint8Array.of(5));
  const into = new Uint8Array(4096);
  assert.equal(file.read(memory.address, into), 4096);
  assert.deepEqual([into[0], into[9]], [5, 8]);
  assert.equal(file.read(address(8n), into), 0);
  assert.equal(failure(() => file.write(address(8n), into)).errno, 'EIO');
});

test('a sealed memory file keeps its size', () => {
  const fd = createMemoryFile('trapline-test', 8192);
  using first = mapMemory(8192, { fd });
  using second = mapMemory(8192, { fd });
  new Uint8Array(first.view)[5000] = 77;
  assert.equal(new Uint8Array(second.view)[5000], 77);
  const seals = Seal.shrink | Seal.grow | Seal.futureWrite;
  addSeals(fd, seals);
  assert.equal(getSeals(fd), seals);
  assert.equal(failure(() => mapMemory(8192, { fd })).errno, 'EPERM');
  const identity = identifyFile(fd);
  assert.equal(identity.bytes, 8192);
  // The file's own line in maps is the oracle.
  const line = readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .find((text) => text.includes('memfd:trapline-test'));
  const [, , , device, inode] = line?.split(/ +/) ?? [];
  assert.equal(inode, String(identity.inode));
  const numbers = device?.split(':').map((part) => Number.parseInt(part, 16));
  assert.deepEqual(numbers, [identity.major, identity.minor]);
  closeMemoryFile(fd);
});

test('device numbers are split as gnu_dev_major and gnu_dev_minor do', () => {
  assert.deepEqual(splitDevice(0x1230_0045_6789n), {
    major: 0x1567,
    minor: 0x23000489,
  });
  assert.deepEqual(splitDevice(0x2an), { major: 0, minor: 42 });
});

test('the kernel marks a liveness word when its thread ends', async () => {
  const fd = createMemoryFile('trapline-live', 4096);
  using shared = mapMemory(4096, { fd });
  const word = new Uint32Array(shared.view);
  const robust = new URL('../../../src/sys/robust.js', import.meta.url).href;
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.robust).then(({ LivenessList }) => {
      const list = new LivenessList();
      const word = list.register(workerData.fd);
      parentPort.postMessage(word.read());
      parentPort.once('message', () => process.exit());
    });`;
  const worker = new Worker(code, { eval: true, workerData: { robust, fd } });
  const owner = await new Promise((resolve) => worker.once('message', resolve));
  assert.equal(word[0], owner);
  assert.notEqual(owner, ownTaskId());
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  worker.postMessage('end');
  await ended;
  // The worker's thread is joined before 'exit' is told.
  assert.equal(word[0], FUTEX_OWNER_DIED);
  closeMemoryFile(fd);
});

test('liveness words can be registered and released in any order', () => {
  const fds = [0, 1, 2].map((index) => createMemoryFile(`trapline-live${index}`, 4096));
  const shared = fds.map((fd) => mapMemory(4096, { fd }));
  const values = (): (number | undefined)[] =>
    shared.map((mapping) => new Uint32Array(mapping.view)[0]);
  {
    using list = new LivenessList();
    const words = fds.map((fd) => list.register(fd));
    const me = ownTaskId();
    assert.deepEqual(values(), [me, me, me]);
    words[1]?.[Symbol.dispose]();
    assert.deepEqual(values(), [me, FUTEX_OWNER_DIED, me]);
    words[0]?.[Symbol.dispose]();
    words[2]?.[Symbol.dispose]();
    assert.deepEqual(values(), [FUTEX_OWNER_DIED, FUTEX_OWNER_DIED, FUTEX_OWNER_DIED]);
  }
  for (const mapping of shared) mapping[Symbol.dispose]();
  for (const fd of fds) closeSync(fd);
});

test('a command starts held, is traced, and runs to its end', () => {
  const output = openSync(join(folder, 'out'), 'w');
  const { pid: child, release } = spawnHeld(
    ['sh', '-c', 'echo "$VALUE" "$PWD" "$0"; exit 3', 'a b'],
    {
      environment: { VALUE: 'seen', PATH: process.env['PATH'] },
      directory: '/',
      stdio: [undefined, output],
      ownGroup: true,
    },
  );
  closeSync(output);
  const task = tid(child);
  seize(task, 0);
  interrupt(task);
  const stop = waitFor(task);
  assert.ok(stop?.kind === 'stopped' && stop.event === TraceEvent.stop);
  const registers = getRegisters(task);
  assert.ok(registers.get('rip') > 0n);
  setRegisters(task, registers);
  assert.ok(getRegisters(task).equals(registers));
  assert.equal(getSignalMask(task), 0n);
  assert.equal(detach(task), true);
  assert.equal(detach(task), false);
  release();
  assert.deepEqual(waitFor(child), { kind: 'exited', tid: child, code: 3 });
  assert.deepEqual(waitFor(child), { kind: 'none' });
  assert.equal(readFileSync(join(folder, 'out'), 'utf8'), 'seen / a b\n');
});

test('a missing command is an error before anything starts', () => {
  const missing = failure(() => spawnHeld(['no-such-command-here']));
  assert.deepEqual([missing.code, missing.errno], ['no-file', 'ENOENT']);
  writeFileSync(join(folder, 'plain'), 'x', { mode: 0o600 });
  assert.equal(failure(() => findCommand('./plain', undefined, folder)).code, 'not-permitted');
  assert.equal(failure(() => findCommand('', '/usr/bin')).code, 'no-file');
  assert.match(findCommand('sh'), /\/sh$/);
});

test('kcmp tells our own memory from another process', () => {
  assert.equal(sharesMemory(own, tid(ownTaskId())), true);
  assert.notEqual(sharesMemory(own, pid(process.ppid)), true);
  assert.equal(sharesMemory(own, pid(4_194_304)), undefined);
});

test('the clock pair lies between two readings of the clock', () => {
  for (let round = 0; round < 20; round++) {
    const before = monotonicNanoseconds();
    const pair = readClockPair();
    assert.ok(before <= pair.nanoseconds && pair.nanoseconds <= monotonicNanoseconds());
    assert.ok(pair.uncertainty > 0n && pair.tsc > pair.uncertainty);
  }
  const one = readClockPair();
  const two = readClockPair();
  assert.ok(two.tsc > one.tsc && two.nanoseconds > one.nanoseconds);
});

test('C++ names are demangled, others are left', () => {
  assert.equal(demangleCpp('_ZN3foo3barEi'), 'foo::bar(int)');
  assert.equal(demangleCpp('main'), undefined);
  assert.equal(demangleCpp('_Zgarbage'), undefined);
  assert.equal(demangleCpp(`_Z${'a'.repeat(MAX_MANGLED_BYTES)}`), undefined);
});

test('registers are 64 bits wide, by name, and copies are apart', () => {
  const registers = new Registers().set('rip', 5n).set('origRax', -1n);
  assert.equal(registers.get('origRax'), 0xffff_ffff_ffff_ffffn);
  assert.equal(registers.signed('origRax'), -1n);
  const copy = registers.copy().set('rip', 6n);
  assert.equal(registers.get('rip'), 5n);
  assert.equal(copy.equals(registers), false);
  // rip is the 17th word of struct user_regs_struct.
  assert.equal(registers.bytes[16 * 8], 5);
});

test('signals have names, and we have credentials', () => {
  assert.equal(signalName(9), 'SIGKILL');
  assert.equal(signalName(40), 'signal 40');
  const credentials = ownCredentials();
  assert.equal(credentials.uid, process.geteuid?.());
  assert.match(credentials.userNamespace, /^user:\[\d+\]$/);
  assert.equal(typeof hasCapability(credentials, 19), 'boolean');
});

test('addresses of JavaScript bytes are those that the kernel sees', () => {
  const bytes = Uint8Array.of(1, 2, 3, 4);
  const seen = new Uint8Array(viewMemory(address(addressOf(bytes)), 4));
  assert.deepEqual([...seen], [1, 2, 3, 4]);
});

test('two copies of the library serve one process', async () => {
  // Another URL is another module: as two versions in a program's dependencies are.
  const url = new URL('../../../src/sys/clock.js', import.meta.url);
  const copy: unknown = await import(`${url.href}?again`);
  assert.ok(typeof copy === 'object' && copy !== null && 'readClockPair' in copy);
  assert.ok(typeof copy.readClockPair === 'function');
  assert.ok(readClockPair().tsc > 0n);
  assert.equal(typeof copy.readClockPair(), 'object');
});
