import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { fileOffset, type FileOffset } from '../../../src/base/brand.ts';
import { Planner, type SitePlan } from '../../../src/engines/jump/planner.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { skipUnless } from '../../harness/features.ts';

/** The C library that we run on. */
function libcPath(): string {
  const line = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .find((one) => /\/libc[.-][^/]*$/.test(one));
  return line?.slice(line.indexOf('/')) ?? assert.fail('no libc is mapped');
}

interface Instruction {
  readonly bytes: number;
  /** Whether what is behind it is not come to from it. */
  readonly ends: boolean;
  /** Of a direct branch, else undefined. */
  readonly target: number | undefined;
}

let disassembled: Map<number, Instruction> | undefined;

/** Every instruction of the file as objdump sees it, by address. */
function disassemble(path: string): Map<number, Instruction> {
  if (disassembled !== undefined) return disassembled;
  const text = execFileSync('objdump', ['-d', '-w', path], { maxBuffer: 1 << 29 }).toString();
  const found = new Map<number, Instruction>();
  const form = /^ +([0-9a-f]+):\t((?:[0-9a-f]{2} )+) *\t(.*)$/gm;
  for (const [, at = '', bytes = '', instruction = ''] of text.matchAll(form)) {
    const branch =
      /^(?:bnd |notrack |data16 )*(?:j[a-z]+|call|loop[a-z]*|xbegin)(?:,p[nt])? +(?:\S+ )?([0-9a-f]+) </.exec(
        instruction,
      );
    const target = branch?.[1] === undefined ? undefined : Number.parseInt(branch[1], 16);
    const ends = /^(?:bnd |notrack |repz |data16 )*(?:ret|jmp)/.test(instruction);
    found.set(Number.parseInt(at, 16), { bytes: bytes.trim().split(' ').length, ends, target });
  }
  return (disassembled = found);
}

test('all entries of libc: a refusal says why, and nothing that is accepted is branched into', (context) => {
  if (skipUnless(context, 'objdump')) return;
  const path = libcPath();
  const elf = ElfFile.open(readFileSync(path), path);
  const offsets = [...SymbolTable.of(elf, { demangle: () => undefined }).functions()].map(
    ({ offset }) => offset,
  );
  const entries = [...new Set<FileOffset>(offsets)];
  const plans = new Planner(elf).plan(entries);
  assert.equal(plans.length, entries.length);
  const code = disassemble(path);
  const targets = targetsOf(code);
  let accepted = 0;
  const methods = new Map<string, number>();
  plans.forEach((plan, at) => {
    assert.equal(plan.offset, entries[at]);
    if (plan.kind === 'refused') {
      assert.ok(plan.reason.length > 10, `0x${plan.offset.toString(16)}: ${plan.reason}`);
      return;
    }
    accepted++;
    const method = plan.ways[0]?.method ?? '';
    methods.set(method, (methods.get(method) ?? 0) + 1);
    assertSafe(plan, code, targets);
  });
  const counts = [...methods].map(([method, count]) => `${count} by ${method}`).join(', ');
  context.diagnostic(`${accepted} of ${plans.length} entries are accepted: ${counts}`);
  assert.ok(accepted > plans.length * 0.99, `only ${accepted} of ${plans.length}`);
});

/** Where direct branches go, and from where. */
function targetsOf(code: ReadonlyMap<number, Instruction>): Map<number, number> {
  const targets = new Map<number, number>();
  for (const [from, { target }] of code) if (target !== undefined) targets.set(target, from);
  assert.ok(targets.size > 10_000);
  return targets;
}

/**
 * By objdump's word: whole instructions, and no direct branch to any byte behind the first of those that are
 * written, nor to any of the padding that is.
 */
function assertSafe(
  plan: SitePlan,
  code: ReadonlyMap<number, Instruction>,
  targets: ReadonlyMap<number, number>,
): void {
  const start = Number(plan.address);
  assert.ok(plan.ways.length > 0, `0x${start.toString(16)}: no way`);
  for (const { method, patchBytes, displaced, innerBoundaries, paddings } of plan.ways) {
    const where = `0x${start.toString(16)} by ${method}`;
    const boundaries: number[] = [];
    const executed = displaced.byteLength;
    let at = start;
    let endsThere = false;
    while (at < start + Math.max(executed, patchBytes)) {
      const instruction = code.get(at);
      assert.ok(
        instruction !== undefined,
        `${where}: objdump has no instruction at +${at - start}`,
      );
      if (at > start && at < start + patchBytes) boundaries.push(at - start);
      at += instruction.bytes;
      if (at === start + executed) endsThere = instruction.ends || patchBytes <= executed;
    }
    // What is written further is filler behind a function's end.
    assert.ok(endsThere, where);
    assert.equal((start % 4096) + patchBytes <= 4096, true, where);
    assert.deepEqual([...innerBoundaries], boundaries, where);
    const written = [...Array(patchBytes - 1).keys()].map((index) => start + 1 + index);
    for (const padding of paddings) {
      const first = Number(padding);
      assert.ok(first - start - 2 >= -128 && first - start - 2 <= 127, where);
      written.push(...[0, 1, 2, 3, 4].map((index) => first + index));
    }
    for (const inside of written) {
      const from = targets.get(inside);
      assert.equal(from, undefined, `${where} is branched into from 0x${(from ?? 0).toString(16)}`);
    }
  }
}

test('every instruction of functions of libc: nothing that is accepted is branched into', (context) => {
  if (skipUnless(context, 'objdump')) return;
  const path = libcPath();
  const elf = ElfFile.open(readFileSync(path), path);
  const code = disassemble(path);
  const targets = targetsOf(code);
  const planner = new Planner(elf);
  // Among them those that jump over a lock prefix.
  const named = [...SymbolTable.of(elf, { demangle: () => undefined }).functions()].filter(
    ({ name, size }) =>
      size > 16 && /^(malloc|free|exit|abort|qsort|f?puts|getenv|fork|rand)$/.test(name),
  );
  const places = named.flatMap(({ offset }) => planner.boundaries(offset));
  assert.ok(places.length > 500, `${places.length} places`);
  let accepted = 0;
  for (const plan of planner.plan(places.map((at) => fileOffset(at)))) {
    if (plan.kind === 'refused') continue;
    accepted++;
    assertSafe(plan, code, targets);
  }
  context.diagnostic(`${accepted} of ${places.length} are accepted`);
  assert.ok(accepted > places.length * 0.95);
});

test('places inside functions: only the starts of instructions are accepted', (context) => {
  if (skipUnless(context, 'objdump')) return;
  const path = libcPath();
  const elf = ElfFile.open(readFileSync(path), path);
  const symbols = [...SymbolTable.of(elf, { demangle: () => undefined }).functions()];
  const code = disassemble(path);
  const [segment] = elf.executableSegments();
  assert.ok(segment !== undefined);
  const shift = Number(segment.address) - segment.fileOffset;
  let tried = 0;
  const wanted = symbols.filter(({ size, kind }) => kind === 'function' && size > 64).slice(0, 60);
  const places = wanted.flatMap(({ offset }) =>
    Array.from({ length: 24 }, (_, at) => fileOffset(offset + at)),
  );
  for (const plan of new Planner(elf).plan(places)) {
    tried++;
    if (plan.kind === 'refused') continue;
    assert.ok(
      code.has(plan.offset + shift),
      `0x${plan.offset.toString(16)} is inside an instruction`,
    );
  }
  assert.equal(tried, places.length);
  assert.ok(tried > 1000);
});

test('what is no place of code is refused', () => {
  const path = libcPath();
  const elf = ElfFile.open(readFileSync(path), path);
  const places = [0, 1, elf.bytes.byteLength - 1, elf.bytes.byteLength + 4096].map((at) =>
    fileOffset(at),
  );
  for (const plan of new Planner(elf).plan(places)) assert.equal(plan.kind, 'refused');
});
