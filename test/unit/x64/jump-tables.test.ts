import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { address } from '../../../src/base/brand.ts';
import { decodeAll } from '../../../src/x64/decode.ts';
import {
  findIndirectJumps,
  targetsWithin,
  type Image,
  type JumpTargets,
} from '../../../src/x64/jump-tables.ts';
import { Listing } from '../../../src/x64/listing.ts';
import { skipUnless } from '../../harness/features.ts';
import { gnuAssemble, withFolder } from './oracles.ts';

/** Each case of each switch is marked by a global label of its own. */
const SOURCE = `
#define MARK(name) asm volatile(".globl mark_" #name "\\nmark_" #name ":" ::: "memory")
int other(int);
__attribute__((noinline)) int dense(int x, int y) {
  switch (x) {
  case 0: MARK(dense_0); return other(y + 1);
  case 1: MARK(dense_1); return y * 3;
  case 2: MARK(dense_2); return other(y) ^ 5;
  case 3: MARK(dense_3); return y - 9;
  case 4: MARK(dense_4); return other(7);
  case 5: MARK(dense_5); return y << 3;
  case 6: MARK(dense_6); return other(y * y);
  case 9: MARK(dense_9); return 77;
  }
  return -1;
}
int looping(const char *text, int y) {
  int sum = 0;
  for (; *text; text++) {
    sum += other(sum);
    switch (*text) {
    case 'a': MARK(looping_a); sum += other(y + 1); break;
    case 'b': MARK(looping_b); sum *= 3; break;
    case 'c': MARK(looping_c); sum = other(y) ^ 5; break;
    case 'd': MARK(looping_d); y = other(sum); break;
    case 'e': MARK(looping_e); sum = y; break;
    case 'f': MARK(looping_f); y++; break;
    }
  }
  return sum;
}
int labels(int *operations) {
  static void *const goals[] = {&&a, &&b, &&c};
  int sum = 0;
  goto *goals[*operations++];
a: MARK(labels_a); sum += other(1); goto *goals[*operations++];
b: MARK(labels_b); sum += other(2); goto *goals[*operations++];
c: MARK(labels_c); return sum;
}
int offsets(int *operations) {
  static const int goals[] = {&&a - &&a, &&b - &&a, &&c - &&a};
  int sum = 0;
  goto *(&&a + goals[*operations++]);
a: MARK(offsets_a); sum += other(1); goto *(&&a + goals[*operations++]);
b: MARK(offsets_b); sum += other(2); goto *(&&a + goals[*operations++]);
c: MARK(offsets_c); return sum;
}
int tail_argument(int (*f)(int), int x) { return f(x + 1); }
struct operations { int (*run)(struct operations *, int); };
int tail_member(struct operations *p, int x) { return p->run(p, x); }
int tail_epilogue(struct operations *p, int x) { int y = other(x); y += other(y + x); return p->run(p, y); }
int (*table[4])(int);
int tail_table(int i, int x) { return table[i](x); }
int plain(int x) { return x ? other(x) : 3; }
`;

/** A linked file, as much of it as the search needs. */
interface Linked {
  readonly image: Image;
  readonly symbols: ReadonlyMap<string, { readonly at: bigint; readonly size: number }>;
}

function number(text: string | undefined): bigint {
  return BigInt(`0x${text ?? ''}`);
}

/** Reads a file by what readelf says of it: nothing of ours. */
function readLinked(path: string): Linked {
  const file = new Uint8Array(readFileSync(path));
  const run = (option: string): string => execFileSync('readelf', [option, '-W', path]).toString();
  const segments = [
    ...run('-l').matchAll(/LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+) 0x\w+ (R|RW|R E|RWE) +0x/g),
  ].map(([, offset, at, size, flags]) => ({
    offset: Number(number(offset)),
    at: number(at),
    end: number(at) + number(size),
    flags,
  }));
  const text = segments.find(({ flags }) => flags === 'R E');
  assert.ok(text !== undefined);
  const relocated = new Map(
    [...run('-r').matchAll(/^(\w+) +\w+ R_X86_64_RELATIVE +(\w+)/gm)].map(([, at, to]) => [
      number(at),
      number(to),
    ]),
  );
  const read = (at: bigint, length: number): Uint8Array | undefined => {
    const segment = segments.find((one) => one.at <= at && at + BigInt(length) <= one.end);
    if (segment === undefined) return undefined;
    const start = segment.offset + Number(at - segment.at);
    const bytes = file.slice(start, start + length);
    const word = relocated.get(at);
    if (word !== undefined) new DataView(bytes.buffer).setBigUint64(0, word, true);
    return bytes;
  };
  const symbols = [...run('-s').matchAll(/: (\w+) +(\d+) \w+ +\w+ +\w+ +\w+ (\w+)$/gm)].map(
    ([, at, size, name]) => [name ?? '', { at: number(at), size: Number(size) }] as const,
  );
  const bounds = { start: address(text.at), end: address(text.end) };
  return { image: { read, text: bounds }, symbols: new Map(symbols) };
}

function build(options: readonly string[], compiler = 'gcc'): Linked {
  return withFolder((folder) => {
    const source = join(folder, 'cases.c');
    const output = join(folder, 'cases');
    writeFileSync(source, SOURCE);
    const linking = ['-nostdlib', '-Wl,-e0', '-Wl,--unresolved-symbols=ignore-all'];
    execFileSync(compiler, ['-w', ...options, ...linking, '-o', output, source]);
    return readLinked(output);
  });
}

/** Wherever in the text they are. */
function targetsOf(listing: Listing, image: Image): JumpTargets {
  return targetsWithin(findIndirectJumps(listing, image), image, image.text);
}

function targetsIn({ image, symbols }: Linked, name: string): JumpTargets {
  const symbol = symbols.get(name);
  assert.ok(symbol !== undefined, name);
  const code = image.read(symbol.at, symbol.size);
  assert.ok(code !== undefined);
  return targetsOf(new Listing(code, address(symbol.at)), image);
}

/** Whether control that enters at `target` comes to `mark` without leaving the line. */
function leadsTo({ image }: Linked, target: bigint, mark: bigint): boolean {
  const code = image.read(target, Number(mark - target)) ?? new Uint8Array(0);
  const ends = new Set(['jump', 'return', 'indirect-jump', 'invalid']);
  return decodeAll(code, address(target)).every(({ flow }) => !ends.has(flow));
}

const LEVELS = ['-O0', '-O1', '-O2', '-O3', '-Os'];
const BUILDS: readonly (readonly string[])[] = LEVELS.flatMap((level) => [
  [level, '-fpic', '-shared'],
  [level, '-fno-pic', '-no-pie', '-static'],
  [level, '-fpie', '-pie', '-fcf-protection=full'],
]);

void test('the cases of switches and computed gotos are found in what gcc makes of them', () => {
  findsCases('gcc');
});

void test('the same through retpolines, in thunks and in the function itself', () => {
  // Compilers make no tables of switches then: their jumps are not cheap.
  const names = ['labels', 'offsets'];
  for (const how of ['thunk', 'thunk-inline']) {
    const builds = LEVELS.map((level) => [level, `-mindirect-branch=${how}`]);
    findsCases('gcc', builds, names);
  }
});

void test('the same in what clang makes of them', (t) => {
  if (!skipUnless(t, 'clang')) findsCases('clang');
});

function findsCases(
  compiler: string,
  builds = BUILDS,
  names: readonly string[] = ['dense', 'looping', 'labels', 'offsets'],
): void {
  for (const options of builds) {
    const linked = build(options, compiler);
    for (const name of names) {
      const found = targetsIn(linked, name);
      const what = `${compiler}: ${name} with ${options.join(' ')}`;
      // Without optimization, clang keeps where it goes in the frame: every place may be meant.
      if (compiler === 'clang' && options[0] === '-O0' && found.kind === 'unknown') continue;
      assert.equal(found.kind, 'known', `${what}: ${'reason' in found ? found.reason : ''}`);
      assert.ok(found.kind === 'known');
      // For size, gcc compares instead of jumping through a table: then nothing is to be found.
      if (options[0] === '-Os' && name === 'looping' && found.targets.length === 0) continue;
      const marks = [...linked.symbols].filter(([one]) => one.startsWith(`mark_${name}_`));
      assert.ok(marks.length >= 3, what);
      for (const [mark, { at }] of marks) {
        const before = found.targets.filter((target) => target <= at && at - target < 64n);
        assert.ok(
          before.some((target) => leadsTo(linked, target, at)),
          `${what}: ${mark}`,
        );
      }
    }
  }
}

void test('tail calls leave, and functions without indirect jumps have no targets', () => {
  for (const options of BUILDS) {
    const linked = build(options);
    for (const name of ['tail_argument', 'tail_member', 'tail_epilogue', 'tail_table', 'plain']) {
      assert.deepEqual(
        targetsIn(linked, name),
        { kind: 'known', targets: [] },
        `${name} with ${options.join(' ')}`,
      );
    }
  }
});

const TEXT = 0x400000n;

/**
 * Code at TEXT with nothing but itself in memory.
 * @param size the function's bytes; all if absent
 */
function analyse(source: string, pointers = false, size?: number): JumpTargets {
  const code = new Uint8Array(gnuAssemble(source));
  const end = TEXT + BigInt(code.byteLength);
  const read = (at: bigint, length: number): Uint8Array | undefined => {
    const offset = Number(at - TEXT);
    return at >= TEXT && at + BigInt(length) <= end
      ? code.slice(offset, offset + length)
      : undefined;
  };
  const image = { read, text: { start: address(TEXT), end: address(end) } };
  return targetsOf(
    new Listing(code.subarray(0, size), address(TEXT)),
    pointers
      ? { ...image, hasPointerInto: (from, to) => from < TEXT + 4n && TEXT + 4n < to }
      : image,
  );
}

void test('what may stay inside, and what cannot be followed, is unknown', () => {
  const cases: [string, RegExp][] = [
    ['push rbx\nmov rax, [rdi]\njmp rax', /pointer/],
    ['sub rsp, 8\njmp [rdi]', /pointer/],
    ['lea rax, [rip+1]\nnop\nmov rcx, [rdi]\njmp rcx', /pointer/],
    ['imul rax, rdi\njmp rax', /computed/],
    ['call .+0x20\njmp rcx', /call/],
    ['add rax, rdx\njmp rax', /base/],
    ['lea rdx, [rip-0x1000]\nmovsxd rax, [rdx+rax*4]\nadd rax, rdx\njmp rax', /no table/],
    ['.byte 0x06\njmp rax', /decode/],
  ];
  for (const [source, reason] of cases) {
    const found = analyse(source);
    assert.match(found.kind === 'unknown' ? found.reason : 'known', reason, source);
  }
  assert.equal(analyse('jmp [rdi]').kind, 'known');
  assert.equal(analyse('.byte 0x06').kind, 'known', 'no bytes of an indirect jump');
  assert.equal(analyse('nop\nnop\nnop\nnop\njmp [rdi]', true).kind, 'unknown', 'pointed into');
});

void test('a jump whose register comes along two paths needs both', () => {
  const merge = 'test edi, edi\nje 1f\nmov rax, [rsi]\njmp 2f\n1: imul rax, rsi\n2: jmp rax';
  assert.equal(analyse(merge).kind, 'unknown');
  const both = 'test edi, edi\nje 1f\nmov rax, [rsi]\njmp 2f\n1: mov rax, rsi\n2: jmp rax';
  assert.deepEqual(analyse(both), { kind: 'known', targets: [] });
  const constant = 'lea rax, [rip+3f]\njmp rax\nnop\n3: ret';
  assert.deepEqual(analyse(constant), { kind: 'known', targets: [TEXT + 10n] });
  const chained = 'lea rcx, [rip+2f]\nlea rax, [rip+1f]\njmp rax\nnop\n1: jmp rcx\n2: ret';
  assert.deepEqual(analyse(chained), { kind: 'known', targets: [TEXT + 17n, TEXT + 19n] });
});

void test('a dispatch that is fallen into, and jumped to through another table, has the tables of both ways', () => {
  const dispatch = 'movsxd rcx, [rdx+rdi*4]\nadd rcx, rdx\njmp rcx\n';
  const through =
    'lea r8, [rip+73f]\nlea rdx, [rip+72f]\nmovsxd rcx, [r8+rdi*4]\nadd rcx, r8\njmp rcx';
  const code = `lea rdx, [rip+71f]\n1: ${dispatch}.balign 32, 0x90\n2: ${through}\n.balign 64, 0x90\n`;
  const goals = '3: nop\n4: nop\n5: ret\n.balign 128, 0x90\n';
  const entries = '71: .long 2b-71b, 3b-71b\n72: .long 4b-72b, 5b-72b\n73: .long 1b-73b';
  const found = analyse(
    code + goals + entries.replaceAll('\n', '\n.fill 300, 4, 0x7fffffff\n'),
    false,
    67,
  );
  assert.ok(found.kind === 'known');
  for (const at of [7n, 32n, 64n, 65n, 66n]) assert.ok(found.targets.includes(TEXT + at), `${at}`);
});

/** A retpoline's call, and what it calls. */
const RETPOLINE = 'call 2f\n1: pause\nlfence\njmp 1b\n2: ';

/** The targets, or why they are not known. */
function goesTo(source: string, size?: number): bigint[] | string {
  const found = analyse(source, false, size);
  return found.kind === 'known' ? [...found.targets] : found.reason;
}

void test('a return to what the function itself wrote is an indirect jump', () => {
  const lea = 'lea rax, [rip+9f]\n';
  const there = [`\n.balign 32\n9: ret`, [TEXT + 32n]] as const;
  for (const jump of [
    'push rax\nret',
    'sub rsp, 8\nmov [rsp], rax\nret',
    'push rcx\npush rcx\nmov [rsp+8], rax\npop rcx\nret',
    'push rax\ncall .+0x100\nret',
    `${RETPOLINE}mov [rsp], rax\nret`,
    `push rax\n${RETPOLINE}lea rsp, [rsp+8]\nret`,
    `push rax\n${RETPOLINE}add rsp, 8\nret`,
  ]) {
    assert.deepEqual(goesTo(`${lea}${jump}${there[0]}`), there[1], jump);
  }
  assert.match(String(goesTo('push rax\nxchg [rsp], rdx\nret')), /unknown form/);
  assert.match(String(goesTo('imul rax, rdi\npush rax\nret')), /computed/);
  assert.match(String(goesTo('.byte 0x06\npush rax\nret')), /decode/);
});

void test('a jump to a thunk, of whatever kind and without a name, is one through its register', () => {
  const loop = 'pause\nlfence\njmp 1b';
  for (const thunk of [
    `call 2f\n1: ${loop}\n2: mov [rsp], rdx\nret`,
    `endbr64\ncall 2f\n1: ${loop}\n.balign 16\n2: mov [rsp], rdx\nret`,
    'lfence\njmp rdx',
    'notrack jmp rdx',
  ]) {
    for (const jump of ['jmp', 'je']) {
      const start = `lea rdx, [rip+9f]\n${jump} 8f\n.balign 16, 0x90\n9: ret\n.balign 32, 0x90`;
      const found = analyse(`${start}\n8: ${thunk}`, false, 32);
      assert.deepEqual(found, { kind: 'known', targets: [TEXT + 16n] }, `${jump}: ${thunk}`);
    }
  }
  const pushed = 'lea rdx, [rip+9f]\npush rdx\njmp 8f\n.balign 16, 0x90\n9: ret\n.balign 32, 0x90';
  for (const thunk of [`call 2f\n1: ${loop}\n2: lea rsp, [rsp+8]\nret`, 'ret', 'rep ret']) {
    const found = analyse(`${pushed}\n8: ${thunk}`, false, 32);
    assert.deepEqual(found, { kind: 'known', targets: [TEXT + 16n] }, thunk);
  }
});

void test('a return to who called, and a call through a retpoline, are none', () => {
  for (const source of [
    'push rbx\npush rcx\npop rcx\npop rbx\nret',
    'sub rsp, 24\nmov [rsp+16], rax\nmov [rsp], rax\nadd rsp, 24\nret',
    'push rbp\nmov rbp, rsp\npush rax\nleave\nret',
    `${RETPOLINE}lea rsp, [rsp+8]\nret`,
    `jmp 3f\n4: ${RETPOLINE}mov [rsp], rax\nret\n3: imul rax, rdi\ncall 4b\nret`,
  ]) {
    assert.deepEqual(analyse(source), { kind: 'known', targets: [] }, source);
  }
});

void test('a table has entries behind one that leaves the text, and before the place that code names', () => {
  const jump = 'lea rdx, [rip+7f]\nmovsxd rax, [rdx+rdi*4]\nadd rax, rdx\njmp rax\n';
  const code = `${jump}.balign 32, 0x90\n1: nop\n2: nop\n3: nop\nret\n.balign 4`;
  for (const table of [
    '7: .long 1b-7b, 0x7fffffff, 2b-7b, 3b-7b',
    '.long 1b-7f, 2b-7f\n7: .long 3b-7b',
    `7: .long 3b-7b\n.fill 600, 4, 0x7fffffff\n.long 2b-7b, 1b-7b`,
  ]) {
    const found = analyse(`${code}\n${table}`, false, 36);
    assert.ok(found.kind === 'known', table);
    for (const at of [32n, 33n, 34n]) assert.ok(found.targets.includes(TEXT + at), table);
  }
});

void test('what is added to a base is an entry of a table only if it is loaded as a whole word', () => {
  const start = 'lea rcx, [rip+7f]\nlea rdx, [rip+8f]\n';
  const end = '\nadd rax, rcx\njmp rax\n8: ret\n.balign 64, 0x90\n7: .long 8b-7b, 8b-7b';
  for (const load of [
    'movsxd rax, [rcx+rdi*4]',
    'mov eax, [rcx+rdi*4]\ncdqe',
    'mov esi, [rcx+rdi*4]\nmovsxd rax, esi',
    'mov rax, [rcx+rdi*8]',
  ]) {
    assert.equal(typeof goesTo(`${start}${load}${end}`, 64), 'object', load);
  }
  for (const load of [
    'movzx eax, word ptr [rcx+rdi*2]',
    'movsx rax, byte ptr [rcx+rdi]',
    'mov rax, rdi\nshl rax, 4',
    'mov rax, rdi',
    'movsxd rax, [rcx+rdi*4]\nadd rax, 1',
  ]) {
    assert.equal(goesTo(`${start}${load}${end}`, 64), 'the goal of a jump is computed', load);
  }
});
