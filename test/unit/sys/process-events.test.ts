import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

import { pid, type Pid } from '../../../src/base/brand.ts';
import { TraplineError } from '../../../src/base/errors.ts';
import { hasEnded } from '../../../src/sys/pidfd.ts';
import {
  explainRefusal,
  ProcessEvents,
  type EventsRefusal,
  type ProcessEventsOptions,
} from '../../../src/sys/process-events.ts';
import { skipUnless } from '../../harness/features.ts';
import { compileFixture } from '../../harness/fixtures.ts';
import type { Outcome } from './process-events-child.ts';

const own = pid(process.pid);
const NOBODY = '65534';

function open(options?: ProcessEventsOptions): ProcessEvents {
  const events = ProcessEvents.open(options);
  assert.ok(events instanceof ProcessEvents, JSON.stringify(events));
  return events;
}

/** All that was told since it was made. */
class Seen implements Disposable {
  readonly events: ProcessEvents;
  readonly forked = new Set<Pid>();
  readonly executed = new Set<Pid>();
  readonly exited = new Set<Pid>();
  lost = false;

  constructor(options?: ProcessEventsOptions) {
    this.events = open(options);
  }

  poll(): this {
    const { forked, executed, exited, lost } = this.events.poll();
    for (const one of forked) this.forked.add(one);
    for (const one of executed) this.executed.add(one);
    for (const one of exited) this.exited.add(one);
    this.lost ||= lost;
    return this;
  }

  /** An end is told a little after the parent can know of it (kernel/exit.c, do_exit). */
  async until(condition: () => boolean): Promise<void> {
    const deadline = Date.now() + 10_000;
    while (!condition()) {
      assert.ok(Date.now() < deadline, 'it was never told');
      await sleep(1);
      this.poll();
    }
  }

  [Symbol.dispose](): void {
    this.events[Symbol.dispose]();
  }
}

/** A child with commands by the line and answers by the line. */
class Talker implements AsyncDisposable {
  readonly pid: Pid;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(program: string, ...words: readonly string[]) {
    this.#child = spawn(program, words, { stdio: ['pipe', 'pipe', 'inherit'] });
    assert.ok(this.#child.pid !== undefined && this.#child.stdout !== null);
    this.pid = pid(this.#child.pid);
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  async ask(line: string): Promise<string> {
    this.#child.stdin?.write(`${line}\n`);
    return this.line();
  }

  async line(): Promise<string> {
    const { value } = await this.#lines.next();
    return String(value);
  }

  send(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  async end(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

test('a child that is started, executes and ends is told of', async (t) => {
  if (skipUnless(t, 'process-connector')) return;
  using seen = new Seen();
  const child = pid(spawnSync('true').pid);
  seen.poll();
  assert.ok(seen.forked.has(child) && seen.executed.has(child));
  await seen.until(() => seen.exited.has(child));
  assert.ok(!seen.lost);
});

test('a process that is only forked executes nothing', async (t) => {
  if (skipUnless(t, 'process-connector')) return;
  using seen = new Seen();
  const { stdout } = spawnSync('sh', ['-c', '( : ) & echo $!; wait'], { encoding: 'utf8' });
  const child = pid(Number(stdout));
  seen.poll();
  assert.ok(seen.forked.has(child) && !seen.executed.has(child));
  await seen.until(() => seen.exited.has(child));
});

test('another program in the same process is an exec alone', async (t) => {
  if (skipUnless(t, 'process-connector')) return;
  await using shell = new Talker('sh', '-c', 'read line; exec cat');
  using seen = new Seen();
  shell.send('go on');
  assert.equal(await shell.ask('cat answers'), 'cat answers');
  seen.poll();
  assert.ok(seen.executed.has(shell.pid));
  assert.ok(!seen.forked.has(shell.pid) && !seen.exited.has(shell.pid));
  await shell.end();
  await seen.until(() => seen.exited.has(shell.pid));
});

test('threads that begin and end are not told of', async (t) => {
  if (skipUnless(t, 'process-connector')) return;
  using seen = new Seen();
  const worker = new Worker('', { eval: true });
  await once(worker, 'exit');
  spawnSync('true'); // its events come after those of the thread
  seen.poll();
  assert.ok(seen.forked.size > 0);
  assert.ok(!seen.forked.has(own) && !seen.exited.has(own));
});

test('a process whose first thread ends goes on, and ends with its last', async (t) => {
  if (skipUnless(t, 'process-connector', 'gcc')) return;
  using seen = new Seen();
  await using threads = new Talker(compileFixture({ sources: ['first-thread.c'] }));
  assert.equal(await threads.ask('thread'), 'thread');
  assert.equal(await threads.ask('leave'), 'leave');
  assert.equal(await threads.ask('thread'), 'thread');
  spawnSync('true');
  seen.poll();
  assert.ok(seen.forked.has(threads.pid) && !seen.exited.has(threads.pid));
  assert.equal(hasEnded(threads.pid), false);
  await threads.end();
  await seen.until(() => seen.exited.has(threads.pid));
  assert.equal(hasEnded(threads.pid), true);
});

test('a thread that executes is an exec of the process, and no end', async (t) => {
  if (skipUnless(t, 'process-connector', 'gcc')) return;
  await using threads = new Talker(compileFixture({ sources: ['first-thread.c'] }));
  assert.equal(await threads.ask('thread'), 'thread');
  using seen = new Seen();
  threads.send('exec');
  assert.equal(await threads.ask('cat answers'), 'cat answers');
  seen.poll();
  assert.ok(seen.executed.has(threads.pid) && !seen.exited.has(threads.pid));
  await threads.end();
  await seen.until(() => seen.exited.has(threads.pid));
});

test('500 short children are all seen', async (t) => {
  if (skipUnless(t, 'process-connector')) return;
  using seen = new Seen();
  const script = 'i=0; while [ $i -lt 500 ]; do /bin/true & echo $!; wait; i=$((i+1)); done';
  const { stdout } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  const children = stdout.trim().split('\n').map(Number).map(pid);
  assert.equal(children.length, 500);
  seen.poll();
  assert.ok(children.every((child) => seen.forked.has(child) && seen.executed.has(child)));
  await seen.until(() => children.every((child) => seen.exited.has(child)));
  assert.ok(!seen.lost);
});

test('a buffer that was full is told once, and then all goes on', (t) => {
  if (skipUnless(t, 'process-connector')) return;
  using seen = new Seen({ receiveBytes: 16_384 });
  spawnSync('sh', ['-c', 'i=0; while [ $i -lt 200 ]; do ( : ); i=$((i+1)); done']);
  assert.ok(seen.poll().lost);
  // Others work on this machine, too, and may fill it again.
  const isTold = (): boolean => {
    const child = pid(spawnSync('true').pid);
    const { forked, lost } = seen.events.poll();
    return !lost && forked.has(child);
  };
  assert.ok(Array.from({ length: 100 }).some(isTold));
});

test('what another process sends is passed over', (t) => {
  if (skipUnless(t, 'process-connector', 'python3')) return;
  using seen = new Seen();
  // A fork of 4194303 to the group, as the kernel would tell it.
  const forged = `
import socket, struct
s = socket.socket(16, socket.SOCK_DGRAM, 11)
s.bind((0, 0))
event = struct.pack('IIQ6I', 1, 0, 0, 7, 7, 4194303, 4194303, 0, 0)
connector = struct.pack('IIIIHH', 1, 1, 12345, 0, 40, 0)
s.sendto(struct.pack('IHHII', 76, 3, 0, 0, 0) + connector + event, (0, 1))
`;
  const { status, stderr } = spawnSync('python3', ['-c', forged], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  seen.poll();
  assert.ok(seen.forked.size > 0 && !seen.forked.has(pid(4_194_303)));
  assert.ok(!seen.lost);
});

/** The acknowledgements that a listener has before it: of all listeners, in order. */
function acknowledgements(fd: number): number[] {
  const bytes = Buffer.alloc(256);
  const found: number[] = [];
  for (;;) {
    try {
      readSync(fd, bytes);
    } catch (error) {
      assert.match(String(error), /EAGAIN/);
      return found;
    }
    if (bytes.readUInt32LE(36) === 0) found.push(bytes.readUInt32LE(28));
  }
}

test('disposing unsubscribes and closes', (t) => {
  if (skipUnless(t, 'process-connector')) return;
  using witness = open();
  witness.poll();
  const events = open();
  const link = `/proc/self/fd/${events.descriptor}`;
  assert.match(readlinkSync(link), /^socket:/);
  const flags = readFileSync(`/proc/self/fdinfo/${events.descriptor}`, 'utf8');
  assert.match(flags, /^flags:\s*02\d*4\d{3}$/m); // O_CLOEXEC and O_NONBLOCK
  events[Symbol.dispose]();
  events[Symbol.dispose]();
  assert.ok(!existsSync(link));
  assert.throws(() => events.poll(), TraplineError);
  // Both requests have the same number; others may subscribe meanwhile.
  const answered = acknowledgements(witness.descriptor);
  assert.equal(answered.length - new Set(answered).size, 1);
});

function runElsewhere(program: string, ...words: readonly string[]): Outcome {
  const { stdout, stderr } = spawnSync(program, words, { encoding: 'utf8' });
  assert.match(stdout, /^\{.*\}\n$/, stderr);
  return JSON.parse(stdout) as Outcome; // what process-events-child.ts writes
}

const child = fileURLToPath(new URL('process-events-child.js', import.meta.url));

test('somebody without privilege gets events or the reason', (t) => {
  if (skipUnless(t, 'process-connector', 'root')) return;
  const { refusal, isTold } = runElsewhere(process.execPath, child, NOBODY);
  // Since Linux 6.6 anybody may; before, nobody without CAP_NET_ADMIN.
  if (isTold === undefined) assert.equal(refusal?.kind, 'not-permitted');
  else assert.ok(isTold);
});

test('in other namespaces the reason is told', (t) => {
  if (skipUnless(t, 'process-connector', 'root', 'user-namespaces')) return;
  const ways = [
    ['-n', 'network'],
    ['-U', 'user'],
    ['-pf', 'pid'],
  ] as const;
  for (const [option, name] of ways) {
    const { refusal } = runElsewhere('unshare', option, process.execPath, child);
    assert.equal(refusal?.kind, 'namespace');
    assert.match(refusal.reason, new RegExp(`initial ${name} namespace`));
  }
});

function kind(...failure: Parameters<typeof explainRefusal>): EventsRefusal['kind'] {
  return explainRefusal(...failure).kind;
}

test('each failure has its reason', () => {
  const { EACCES, EAFNOSUPPORT, ECONNREFUSED, EMFILE, ENOSYS, EPERM, EPROTONOSUPPORT } =
    constants.errno;
  const initial = {
    uid: 0,
    gid: 0,
    capabilities: 0n,
    userNamespace: 'user:[4026531837]',
    pidNamespace: 'pid:[4026531836]',
  };
  for (const errno of [EPERM, EACCES, ENOSYS, EAFNOSUPPORT]) {
    assert.equal(kind('socket', errno), 'blocked');
  }
  assert.equal(kind('socket', EPROTONOSUPPORT), 'not-built-in');
  assert.equal(kind('socket', EMFILE), 'system');
  assert.match(explainRefusal('socket', EMFILE).reason, /EMFILE/);
  assert.equal(kind('bind', EPERM), 'not-permitted');
  assert.equal(kind('send', ECONNREFUSED), 'namespace');
  assert.equal(kind('acknowledgement', EPERM), 'not-permitted');
  assert.equal(kind('acknowledgement', undefined, initial), 'not-built-in');
  const pidNamespace = 'pid:[4026532000]';
  const userNamespace = 'user:[4026532001]';
  assert.equal(
    kind('acknowledgement', undefined, { ...initial, pidNamespace, userNamespace }),
    'namespace',
  );
  assert.equal(kind('acknowledgement', undefined, { ...initial, userNamespace }), 'namespace');
});

test('a process that runs has not ended; what is no process has', () => {
  assert.equal(hasEnded(own), false);
  assert.equal(hasEnded(pid(4_194_304)), true);
  // Node always has other threads; the id of one is that of no process.
  const thread = readdirSync('/proc/self/task')
    .map(Number)
    .find((id) => id !== process.pid);
  assert.ok(thread !== undefined);
  assert.equal(hasEnded(pid(thread)), true);
});
