import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { execFileSync } from 'node:child_process';
import { address, type Address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { isJump } from '../../../src/x64/branch-scan.ts';
import { findLandings, isCertainCall, type TextFunction } from '../../../src/x64/landings.ts';
import { Listing } from '../../../src/x64/listing.ts';
import { CONDITIONS, mem } from '../../../src/x64/operands.ts';

const AT = address(0x400000n);
const nowhere = (): undefined => undefined;

/** A window at AT+0x100, and code before and behind it. */
function landingsOf(
  write: (code: Assembler, inside: Address) => unknown,
  whole: boolean,
): string[] {
  const code = new Assembler(AT);
  write(code, address(AT + 0x42n));
  code.nop(0x80 - code.length);
  const text = code.finish();
  const all = { start: 0, listing: new Listing(text, AT) };
  const window = { start: 0x40, end: 0x45 };
  const [found] = findLandings(text, [window], () => (whole ? all : undefined));
  return (found ?? []).map(({ target, from, certain }) => `${from}>${target}${certain ? '' : '?'}`);
}

void test('every direct branch into a window is found', () => {
  for (const condition of CONDITIONS) {
    assert.deepEqual(
      landingsOf((code, inside) => code.jcc(condition, inside, 'short'), true),
      ['0>66'],
    );
    assert.deepEqual(
      landingsOf((code, inside) => code.jcc(condition, inside, 'near'), true),
      ['0>66'],
    );
  }
  assert.deepEqual(
    landingsOf((code, inside) => code.nop(3).jmp(inside, 'short').jmp(inside, 'near'), true),
    ['3>66', '5>66'],
  );
  assert.deepEqual(
    landingsOf((code, inside) => code.call(inside), true),
    ['0>66'],
  );
  for (const opcode of [0xe0, 0xe1, 0xe2, 0xe3]) {
    assert.deepEqual(
      landingsOf((code) => code.raw([opcode, 0x40]), true),
      ['0>66'],
    );
  }
  assert.deepEqual(
    landingsOf((code) => code.raw([0xc7, 0xf8, 0x3c, 0, 0, 0]), true),
    ['0>66'],
    'xbegin',
  );
  assert.deepEqual(
    landingsOf((code, inside) => code.nop().lea('r9', mem({ target: inside })), true),
    ['2>66'],
    'an address that is taken',
  );
  assert.deepEqual(
    landingsOf((code) => code.raw([0x66, 0x66, 0x48, 0xe8, 0x3a, 0, 0, 0]), true),
    ['3>66'],
    'prefixes stand before the opcode',
  );
});

const write = (code: Assembler): unknown => code.mov('rax', 0x7f7f_7f7f_403e_eb7fn);
const dirty = (code: Assembler): unknown => code.raw([0x06, 0xeb, 0x3f]);

void test('what only looks like a branch is dismissed where the code is known, kept where not', () => {
  assert.deepEqual(landingsOf(write, false), ['3>67?']);
  assert.deepEqual(landingsOf(write, true), []);
  assert.deepEqual(landingsOf(dirty, true), ['1>66?'], 'the function does not decode');
});

void test('the first byte of a window and the byte behind it are not inside', () => {
  const window = { start: 0x40, end: 0x45 };
  for (const [to, expected] of [
    [0x3f, 0],
    [0x40, 0],
    [0x41, 1],
    [0x44, 1],
    [0x45, 0],
  ] as const) {
    const text = new Assembler(AT)
      .jmp(address(AT + BigInt(to)), 'near')
      .nop(0x80)
      .finish();
    assert.equal(findLandings(text, [window], nowhere)[0]?.length, expected);
  }
});

void test('windows that overlap, lie outside or are empty, and branches cut off by the end', () => {
  const text = new Assembler(AT)
    .jmp(address(AT + 0x42n), 'near')
    .nop(0x40)
    .finish();
  const windows = [
    { start: 0x41, end: 0x46 },
    { start: 0x3e, end: 0x43 },
    { start: 0x1000, end: 0x1005 },
    { start: -0x1000, end: -0xffb },
    { start: 0x41, end: 0x41 },
  ];
  const found = findLandings(text, windows, nowhere);
  assert.deepEqual(
    found.map((landings) => landings.length),
    [1, 1, 0, 0, 0],
  );
  for (const cut of [
    [0xe9],
    [0xe9, 0, 0],
    [0x0f],
    [0x0f, 0x84, 0, 0],
    [0xeb],
    [0xc7],
    [0xc7, 0xf8],
  ]) {
    const bytes = Uint8Array.from([0x90, 0x90, 0x90, ...cut]);
    const all = [{ start: 0, end: 0x100 }];
    assert.doesNotThrow(() => findLandings(bytes, all, nowhere));
  }
});

void test('numbers that may be addresses count where the text is known to lie', () => {
  const at = Number(AT);
  const inside = [0x42, 0, 0x40, 0];
  for (const [bytes, from] of [
    [[0xb8, ...inside], 1], // mov eax, imm32
    [[0x68, ...inside], 1], // push imm32
    [[0x48, 0xb8, ...inside, 0, 0, 0, 0], 2], // mov rax, imm64
    [[0x48, 0xc7, 0x05, 0, 0, 0, 0, ...inside], 7], // mov qword ptr [rip], imm32
    [[0x8d, 0x0c, 0x25, ...inside], 3], // lea ecx, [disp32]
    [[0xc7, 0x80, ...inside, 0, 0, 0, 0], 2], // mov dword ptr [rax + disp32], imm32
  ] as const) {
    const text = new Assembler(AT)
      .raw([...bytes])
      .nop(0x80)
      .finish();
    const all = { start: 0, listing: new Listing(text, AT) };
    const window = { start: 0x40, end: 0x45 };
    const expected = { kind: 'address', target: 0x42, from, certain: true };
    assert.deepEqual(
      findLandings(text, [window], () => all, at),
      [[expected]],
    );
    assert.deepEqual(findLandings(text, [window], nowhere, at), [
      [{ ...expected, certain: false }],
    ]);
    assert.deepEqual(
      findLandings(text, [window], () => all),
      [[]],
      'a text that may lie anywhere',
    );
    for (const narrow of [{ jumpsOnly: true }, { branchesOnly: true }]) {
      assert.deepEqual(findLandings(text, [{ ...window, ...narrow }], nowhere, at), [[]]);
    }
    const many = Array.from({ length: 40 }, (_, nth) => ({ start: nth * 16, end: nth * 16 + 5 }));
    assert.deepEqual(findLandings(text, many, () => all, at)[4], [expected], 'in one pass');
  }
  // A distance, and the end of one instruction with the start of the next, are none.
  for (const bytes of [
    [0xe8, ...inside],
    [0x8b, 0x05, ...inside],
    [0xb8, 0, 0, 0, 0x42, 0, 0x40, 0],
  ]) {
    const text = new Assembler(AT).raw(bytes).nop(0x80).finish();
    const all = { start: 0, listing: new Listing(text, AT) };
    const window = { start: 0x40, end: 0x45 };
    assert.deepEqual(
      findLandings(text, [window], () => all, at),
      [[]],
    );
  }
});

const LIBC = '/lib/x86_64-linux-gnu/libc.so.6';

/** The direct branches of libc's text as objdump sees them: where, and where to. */
function objdumpBranches(): Map<bigint, bigint> {
  const text = execFileSync('objdump', ['-d', '-j', '.text', '--no-show-raw-insn', LIBC], {
    maxBuffer: 1 << 28,
  }).toString();
  const branches = new Map<bigint, bigint>();
  const pattern = /^ +([0-9a-f]+):\t(?:[a-z0-9]+ )*?(?:j\w+|call|loop\w*|xbegin) +([0-9a-f]+) </gm;
  for (const [, from, to] of text.matchAll(pattern)) {
    branches.set(BigInt(`0x${from}`), BigInt(`0x${to}`));
  }
  return branches;
}

/** Where .text lies: address, file offset, size. */
function textSection(): { at: Address; bytes: Uint8Array } {
  const listing = execFileSync('readelf', ['-SW', LIBC]).toString();
  const [, at, offset, size] = /\.text +PROGBITS +(\w+) (\w+) (\w+)/.exec(listing) ?? [];
  const start = Number.parseInt(offset ?? '', 16);
  const bytes = readFileSync(LIBC).subarray(start, start + Number.parseInt(size ?? '', 16));
  return { at: address(BigInt(`0x${at}`)), bytes: new Uint8Array(bytes) };
}

/** The functions that the dynamic symbols name, by their places in .text. */
function functions(textAt: Address): { start: number; end: number }[] {
  const listing = execFileSync('readelf', ['-W', '--dyn-syms', LIBC]).toString();
  const found = new Map<number, { start: number; end: number }>();
  for (const [, value, size] of listing.matchAll(/: (\w+) +(\d+) FUNC +\w+ +\w+ +\d+ /g)) {
    const start = Number(BigInt(`0x${value}`) - textAt);
    if (size === '0' || start < 0) continue;
    found.set(start, { start, end: start + Number(size) });
  }
  return [...found.values()].sort((one, other) => one.start - other.start);
}

void test("no branch of libc that objdump knows is missed, and what is certain is one of objdump's", () => {
  const { at, bytes } = textSection();
  const branches = new Map(
    [...objdumpBranches()].map(([from, to]) => [Number(from - at), Number(to - at)]),
  );
  const known = functions(at);
  assert.ok(branches.size > 50_000 && known.length > 1000);
  // At entries hardly anything lands. So also in the middle, at addresses of no meaning.
  const windows = Array.from({ length: 4500 }, (_, index) => index * 300)
    .concat(known.map(({ start }) => start))
    .map((start) => ({ start, end: start + 5 }));
  const functionAt = (offset: number): TextFunction | undefined => {
    const bounds = known.findLast(({ start, end }) => start <= offset && offset < end);
    if (bounds === undefined) return undefined;
    const { start, end } = bounds;
    const listing = new Listing(bytes.subarray(start, end), address(at + BigInt(start)));
    return { start, listing };
  };
  const found = findLandings(bytes, windows, functionAt);

  let expected = 0;
  const targets = [...branches].toSorted(([, one], [, other]) => one - other);
  for (const [index, { start, end }] of windows.entries()) {
    const ours = found[index] ?? [];
    for (const [from, target] of targets) {
      if (target >= end) break;
      if (target <= start) continue;
      // objdump prints where the instruction starts; prefixes may stand before the opcode.
      const hit = ours.find(
        (one) => one.target === target && one.from - from < 5 && one.from >= from,
      );
      assert.ok(hit !== undefined, `0x${from.toString(16)} to 0x${target.toString(16)}`);
      expected++;
    }
    for (const { kind, from, target, certain } of ours) {
      if (certain && kind === 'branch')
        assert.equal(branches.get(from) ?? branches.get(from - 1), target);
    }
  }
  assert.ok(expected > 500, `${expected} landings`);

  // Few windows are searched for in another way than many.
  const busiest = windows
    .map((window, index) => ({ window, landings: found[index] ?? [] }))
    .toSorted((one, other) => other.landings.length - one.landings.length)
    .slice(0, 200);
  for (const { window, landings } of busiest) {
    assert.deepEqual(findLandings(bytes, [window], functionAt), [landings]);
    const jumps = landings.filter(({ from }) => isJump(bytes, from));
    assert.deepEqual(findLandings(bytes, [{ ...window, jumpsOnly: true }], functionAt), [jumps]);
    const [some = []] = findLandings(bytes, [{ ...window, untilCall: true }], functionAt);
    const calls = landings.filter((one) => isCertainCall(bytes, one));
    assert.equal(some.filter((one) => isCertainCall(bytes, one)).length, Math.min(calls.length, 1));
    if (calls.length === 0) assert.deepEqual(some, landings);
  }
});
