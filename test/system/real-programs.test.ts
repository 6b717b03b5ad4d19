/** Programs that everybody has: what is counted agrees with gdb, with the program's own words, or both. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { ElfFile } from '../../src/symbols/elf.ts';
import { skipUnless } from '../harness/features.ts';
import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import { assertClean, snapshot } from '../harness/leaks.ts';
import { startTarget } from '../harness/target.ts';
import { Running } from './cli-support.ts';
import {
  countByDebugger,
  countOf,
  runPlain,
  traceCommand,
  withFolder,
  type RunOptions,
  type Traced,
} from './real-support.ts';

/** Traces a command whose output must be what it is without us, and whose every hit must be an event. */
function traceUnnoticed(
  words: readonly string[],
  command: readonly string[],
  options: RunOptions = {},
): Traced {
  const traced = traceCommand(words, command, options);
  const [program = '', ...args] = command;
  const plain = runPlain(program, args, options);
  assert.equal(spoken(traced.out), spoken(plain.out));
  assert.equal(traced.status, plain.status, traced.err);
  assert.doesNotMatch(traced.err, /^kept:/m);
  return traced;
}

/** What a program says, but for its own number. */
function spoken(text: string): string {
  return text.replace(/^ready \d+$/m, 'ready');
}

test('zsh: zfree, a tail jump to free, as often as gdb sees it', (context) => {
  if (skipUnless(context, 'zsh', 'gdb')) return;
  withFolder((folder) => {
    const script = join(folder, 'script');
    writeFileSync(script, 'for i in 1 2 3; do x=$i; echo $x; unset x; done\n');
    const command = [requireProgram('zsh'), '-f', script];
    const traced = traceUnnoticed(['zfree@zsh block=%di size=%si:s32'], command);
    assert.equal(traced.events.length, countOf(traced, 'probe_zsh:zfree'));
    assert.equal(traced.events.length, countByDebugger('zfree', command));
    for (const { event, comm } of traced.events) {
      assert.deepEqual([event, comm], ['probe_zsh:zfree', 'zsh']);
    }
  });
});

test('zsh: zfree of a shell that runs, between two of its commands', async (context) => {
  if (skipUnless(context, 'zsh')) return;
  await using target = await startTarget(requireProgram('zsh'), ['-f']);
  const command = async (text: string): Promise<void> => {
    target.send(`${text}; echo done`);
    await target.waitForLine('done', 30_000);
  };
  // What is done for the first time asks for memory that it keeps.
  const work = 'for i in {1..20}; do x=$i$i; unset x; done';
  await command(work);
  const before = await snapshot(target.pid);
  const counts: number[] = [];
  for (let round = 0; round < 2; round++) {
    await using running = new Running(['trace', '-p', String(target.pid), 'zfree@zsh block=%di']);
    await running.until('err', /1 probe in zsh/);
    await command(work);
    running.child.kill('SIGINT');
    const result = await running.result();
    assert.equal(result.status, 0, result.err);
    assert.doesNotMatch(result.err, /^kept:/m);
    const hits = countOf({ ...result, signal: null }, 'probe_zsh:zfree');
    assert.equal(result.out.trimEnd().split('\n').length, hits);
    counts.push(hits);
  }
  assert.ok(counts[0] !== undefined && counts[0] >= 20, String(counts));
  assert.equal(counts[1], counts[0], 'the same work, the same calls');
  await command(work);
  assertClean(before, await snapshot(target.pid), { ran: true });
});

test('ls: malloc of libc, from the first call on, as often as gdb sees it', (context) => {
  if (skipUnless(context, 'gdb')) return;
  const command = [requireProgram('ls'), '/'];
  const traced = traceUnnoticed(['malloc@libc.so.6 size=%di:u64'], command);
  assert.equal(traced.events.length, countOf(traced, 'probe_libc:malloc'));
  assert.equal(traced.events.length, countByDebugger('malloc', command));
  assert.ok(traced.events.every(({ args }) => Number(args['size']) < 1 << 24));
});

test('python3: frames that are evaluated, as often as gdb sees them', (context) => {
  if (skipUnless(context, 'gdb')) return;
  const python = '/usr/bin/python3'; // the system's: others may come without symbols
  withFolder((folder) => {
    const script = join(folder, 'script.py');
    writeFileSync(script, 'def f(n): return n and f(n - 1)\nprint([f(9) for _ in range(50)])\n');
    const command = [python, '-I', '-S', script];
    const place = '_PyEval_EvalFrameDefault';
    const traced = traceUnnoticed([`${place}@python3`, 'PyObject_Malloc@python3 n=%di'], command);
    assert.equal(countOf(traced, `probe_python3:${place}`), countByDebugger(place, command));
    assert.ok(countOf(traced, 'probe_python3:PyObject_Malloc') > 0);
  });
});

test('sqlite3 in four threads: each statement once, with its text', (context) => {
  if (skipUnless(context, 'libsqlite3-dev')) return;
  const program = compileFixture({ sources: ['sqlite-threads.c'], libraries: ['-lsqlite3'] });
  const rounds = 5;
  const words = [
    'sqlite3_step@libsqlite3',
    'sqlite3_prepare_v2@libsqlite3.so.0 sql=+0(%si):string',
  ];
  const traced = traceUnnoticed(words, [program], { input: '\n'.repeat(rounds) });
  const texts = traced.events.flatMap(({ args }) => ('sql' in args ? [args['sql']] : []));
  const often = (text: string): number => texts.filter((one) => one === text).length;
  for (const text of [
    'create table t (n integer)',
    'insert into t values (?)',
    'select sum(n) from t',
  ]) {
    assert.equal(often(text), 4 * rounds, text);
  }
  // 200 inserts and one sum in each thread; the library steps through its own statements besides.
  const steps = countOf(traced, 'probe_libsqlite3:sqlite3_step');
  assert.ok(steps >= 4 * rounds * 201 && steps <= 4 * rounds * 220, String(steps));
  const tids = new Set(traced.events.map(({ tid }) => tid));
  assert.equal(tids.size, 4 * rounds, 'each thread has its own events');
});

test('Go: goroutines on several threads, arguments in registers, the collector at work', (context) => {
  if (skipUnless(context, 'go')) return;
  const program = compileFixture({ sources: ['work.go'] });
  const rounds = 4;
  const options = { input: '\n'.repeat(rounds), env: { PATH: '/usr/bin', GOGC: '1' } };
  const words = [
    'main.goWork@work a=%ax:s64 b=%bx:s64',
    'runtime.mallocgc@work',
    'runtime.gopark@work',
  ];
  const traced = traceCommand(words, [program], options);
  assert.equal(traced.status, 0, traced.err);
  assert.match(traced.out, new RegExp(`^ok ${rounds * 8000}$`, 'm'));
  const calls = traced.events.filter(({ event }) => event === 'probe_work:main_goWork');
  const missed = countOf(traced, 'probe_work:main_goWork', 'missed');
  assert.equal(countOf(traced, 'probe_work:main_goWork'), rounds * 8000);
  assert.equal(calls.length + missed, rounds * 8000);
  if (missed > 0) return;
  const seen = new Map<string, number>();
  for (const { args } of calls) {
    const key = `${String(args['a'])} ${String(args['b'])}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
  }
  assert.equal(seen.size, 8000, 'eight goroutines with a thousand calls each');
  for (const [key, count] of seen) assert.equal(count, rounds, key);
});

test('Go: deep recursion on stacks that grow and move, counted exactly', (context) => {
  if (skipUnless(context, 'go')) return;
  const program = compileFixture({ sources: ['work.go'] });
  const words = ['main.goDeep@work', 'runtime.newstack@work', '--count'];
  const traced = traceCommand(words, [program], { input: '\n\n' });
  assert.match(traced.out, /^ok 16000$/m);
  // goDeep(n & 31) calls itself n & 31 times, for 1000 n in 8 goroutines and two rounds.
  let calls = 0;
  for (let n = 0; n < 1000; n++) calls += (n & 31) + 1;
  calls *= 2 * 8;
  // Where a stack has to grow, the runtime makes room and begins the function once more.
  const hits = countOf(traced, 'probe_work:main_goDeep');
  const begunAgain = countOf(traced, 'probe_work:runtime_newstack');
  assert.ok(hits >= calls && hits <= calls + begunAgain, `${hits} of ${calls} + ${begunAgain}`);
  assert.ok(begunAgain < 1000, String(begunAgain));
});

test('Rust: functions by the names that people read', (context) => {
  if (skipUnless(context, 'rust')) return;
  const program = compileFixture({ sources: ['work.rs'] });
  const words = [
    'rust_work@work a=%di b=%si',
    'work::shop::Cart::put@work units=%si:u64',
    'work::shop::twice@work',
  ];
  const traced = traceCommand(words, [program], { input: '\n\n' });
  assert.equal(traced.status, 0, traced.err);
  assert.match(traced.out, /^ok 8000$/m);
  const events = ['rust_work', 'work_shop_Cart_put', 'work_shop_twice'];
  for (const event of events) assert.equal(countOf(traced, `probe_work:${event}`), 8000, event);
});

test('node itself: a C++ function by its demangled name, called as often as the script says', () => {
  const script =
    'let s = 0; for (let i = 0; i < 123; i++) s += JSON.stringify({ i }).length; console.log(s)';
  const command = [process.execPath, '-e', script];
  const words = [`v8::internal::JsonStringify@'${process.execPath}'`];
  const traced = traceUnnoticed(words, command);
  assert.equal(traced.events.length, 123, traced.err);
  assert.match(traced.events[0]?.event ?? '', /v8_internal_JsonStringify$/);
});

test('openssl: a digest is fed with exactly the bytes of the file', (context) => {
  if (skipUnless(context, 'openssl')) return;
  withFolder((folder) => {
    const file = join(folder, 'data');
    const bytes = Buffer.alloc(777_777, 'trapline');
    writeFileSync(file, bytes);
    const words = ['EVP_DigestUpdate@libcrypto length=%dx:u64', 'EVP_MD_fetch@libcrypto.so.3'];
    const command = [requireProgram('openssl'), 'dgst', '-sha256', '-r', file];
    const traced = traceUnnoticed(words, command);
    const lengths = traced.events.map(({ args }) => Number(args['length'] ?? 0));
    assert.equal(
      lengths.reduce((sum, length) => sum + length, 0),
      bytes.length,
    );
    assert.ok(traced.out.startsWith(createHash('sha256').update(bytes).digest('hex')));
  });
});

test('gzip: a stripped program, by a file offset', () => {
  const gzip = requireProgram('gzip');
  const elf = ElfFile.open(readFileSync(gzip), gzip);
  const entry = elf.fileOffsetOf(elf.entry);
  assert.ok(entry !== undefined);
  withFolder((folder) => {
    const file = join(folder, 'data');
    writeFileSync(file, 'trapline\n'.repeat(10_000));
    const place = `${gzip}:0x${entry.toString(16)}`;
    const command = [gzip, '-9', '-n', '-c', file];
    const traced = traceCommand([place, 'write@libc.so.6 length=%dx:u64'], command);
    assert.equal(traced.status, 0, traced.err);
    assert.equal(traced.events.filter(({ event }) => event.startsWith('uprobes:')).length, 1);
    assert.equal(traced.out, runPlain(gzip, ['-9', '-n', '-c', file]).out);
  });
});
