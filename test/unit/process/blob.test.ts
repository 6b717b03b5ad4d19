import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import * as fc from 'fast-check';

import { address } from '../../../src/base/brand.ts';
import { TraplineError } from '../../../src/base/errors.ts';
import { assembleBlob, largestBlob, type RemoteCall } from '../../../src/process/blob.ts';
import { keepInterruptedCall, restartOf } from '../../../src/process/restart.ts';
import { RangeFilter } from '../../../src/process/stacks.ts';
import { registerFields, Registers } from '../../../src/sys/registers.ts';

const folder = mkdtempSync(join(tmpdir(), 'trapline-blob-'));
after(() => rmSync(folder, { recursive: true }));

const origin = address(0x7f00_0000_1000n);
const state = (registers: Registers): { registers: Registers; signalMask: bigint } => ({
  registers,
  signalMask: 0n,
});

function disassemble(bytes: Uint8Array): string {
  const file = join(folder, 'blob');
  writeFileSync(file, bytes);
  const options = ['-D', '-b', 'binary', '-m', 'i386:x86-64', '-Mintel', '--no-show-raw-insn'];
  const { stdout } = spawnSync('objdump', [...options, file], { encoding: 'utf8' });
  return stdout;
}

const pairs = (count: number): RemoteCall[] => [
  ...Array.from({ length: count }, () => ({ number: 39, arguments: [] })),
  ...Array.from({ length: count }, (_, result) => ({ number: 3, arguments: [{ result }] })),
];

const interruptedAt = (call: bigint, rax: bigint): Registers =>
  new Registers().set('rip', 1002n).set('origRax', call).set('rax', rax);

const keptResult = (call: bigint, rax: bigint): bigint => {
  let registers = new Registers().set('origRax', call).set('rax', rax);
  keepInterruptedCall({
    get registers() {
      return registers.copy();
    },
    setRegisters: (next) => (registers = next),
  });
  return registers.signed('rax');
};

test('a blob touches no stack and stores nothing: objdump is the judge', () => {
  const calls: RemoteCall[] = [
    { number: 319, arguments: [{ data: Buffer.from('name\0') }, 1n] },
    { number: 9, arguments: [0n, 4096n, 1n, 1n, { result: 0 }, 0n] },
    { number: 11, arguments: [{ result: 1 }, 4096n] },
  ];
  const registers = new Registers().set('rip', 0x401234n).set('origRax', 34n).set('rax', -514n);
  const code = disassemble(assembleBlob(origin, calls, state(registers)));
  const text = code.slice(0, code.lastIndexOf('jmp'));
  assert.equal(text.match(/\bsyscall\b/g)?.length, 3 + 3);
  for (const line of text.split('\n').slice(7)) {
    assert.doesNotMatch(line, /\b(push|pop|call|ret|rsp|esp)\b/, line);
    // A memory operand stands only on the right: lea and the jump through a constant.
    assert.doesNotMatch(line, /\b(mov|add|and|or|sub|xor)\s+\S*( PTR )?\[/, line);
  }
});

test('results that are used are kept, six of them and no more', () => {
  assert.ok(assembleBlob(origin, pairs(6), state(new Registers())).byteLength > 0);
  assert.throws(
    () => assembleBlob(origin, pairs(7), state(new Registers())),
    (error) => error instanceof TraplineError && error.code === 'limit',
  );
  const forward = [{ number: 3, arguments: [{ result: 0 }] }];
  assert.throws(() => assembleBlob(origin, forward, state(new Registers())), /comes later/);
});

test('interrupted calls go on as the kernel would have them', () => {
  const eintr = BigInt.asUintN(64, -4n);
  const again = { rip: 1000n, rax: 7n };
  const interrupted = { rip: 1002n, rax: eintr };
  assert.deepEqual(restartOf(interruptedAt(7n, -512n)), { ...again, handled: again });
  assert.deepEqual(restartOf(interruptedAt(7n, -513n)), { ...again, handled: again });
  assert.deepEqual(restartOf(interruptedAt(7n, -514n)), { ...again, handled: interrupted });
  assert.deepEqual(restartOf(interruptedAt(7n, -516n)), {
    ...again,
    rax: 219n,
    handled: interrupted,
  });
  for (const [call, rax] of [
    [7n, -4n],
    [7n, 0n],
    [-1n, -514n],
    [-1n, 5n],
  ] as const) {
    const here = { rip: 1002n, rax: BigInt.asUintN(64, rax) };
    assert.deepEqual(restartOf(interruptedAt(call, rax)), { ...here, handled: here });
  }
});

test('an EINTR that our stop caused is turned into a restart, another is not', () => {
  assert.equal(keptResult(232n, -4n), -514n); // epoll_wait
  assert.equal(keptResult(232n, 3n), 3n);
  assert.equal(keptResult(3n, -4n), -4n); // close must not be made again
  assert.equal(keptResult(42n, -4n), -4n); // nor connect
  assert.equal(keptResult(-1n, -4n), -4n);
});

test('words are compared with ranges as a plain loop would', () => {
  const word = fc.bigInt({ min: 0n, max: (1n << 47n) - 1n });
  const near = fc.tuple(word, fc.bigInt({ min: 0n, max: 1n << 34n }));
  fc.assert(
    fc.property(fc.array(near, { maxLength: 6 }), fc.array(word), (raw, others) => {
      const ranges = raw.map(([start, size]) => ({
        start: address(start),
        end: address(start + size),
      }));
      const edges = ranges.flatMap(({ start, end }) => [start - 1n, start, end - 1n, end]);
      const values = [...edges, ...others].filter((value) => value >= 0n);
      const words = BigUint64Array.from([...values, 0xffff_ffff_ffff_ffffn]);
      const expected = values.flatMap((value, index) =>
        ranges.some((range) => value >= range.start && value < range.end) ? [index] : [],
      );
      const halves = new Uint32Array(words.buffer);
      assert.deepEqual(new RangeFilter(ranges).matches(halves, words.length), expected);
    }),
  );
});

test('the calls that answer EINTR are those of the system’s own headers', () => {
  const header = readFileSync('/usr/include/x86_64-linux-gnu/asm/unistd_64.h', 'latin1');
  const number = (name: string): bigint =>
    BigInt(new RegExp(`define __NR_${name} (\\d+)`).exec(header)?.[1] ?? -1);
  for (const name of ['epoll_wait', 'epoll_pwait', 'epoll_pwait2', 'semop', 'rt_sigtimedwait']) {
    let changed = false;
    const registers = new Registers().set('origRax', number(name)).set('rax', -4n);
    keepInterruptedCall({ registers, setRegisters: () => (changed = true) });
    assert.ok(changed, name);
  }
});

test('no blob of a batch is larger than its largest', () => {
  const word = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
  const argument = fc.oneof(
    word,
    fc.uint8Array({ maxLength: 20 }).map((data) => ({ data })),
  );
  const call = fc.record({
    number: fc.integer({ min: 0, max: 400 }),
    arguments: fc.array(argument, { maxLength: 6 }),
  });
  fc.assert(
    fc.property(
      fc.array(call, { maxLength: 12 }),
      fc.array(word, { minLength: 18, maxLength: 18 }),
      fc.constantFrom(-1n, 34n, 271n),
      fc.constantFrom(-512n, -514n, -516n, 0n),
      fc.bigInt({ min: 1n, max: (1n << 47n) - 1n }),
      (calls, values, interrupted, rax, at) => {
        const registers = new Registers();
        registerFields.slice(0, values.length).forEach((name, index) => {
          registers.set(name, values[index] ?? 0n);
        });
        registers.set('origRax', interrupted).set('rax', rax);
        registers.set('rip', registers.get('rip') | 2n); // behind a syscall instruction
        const task = { registers, signalMask: values[0] ?? 0n };
        const { byteLength } = assembleBlob(address(at), calls, task);
        assert.ok(byteLength <= largestBlob(calls));
      },
    ),
  );
});
