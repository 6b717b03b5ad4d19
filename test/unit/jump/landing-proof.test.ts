import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { fileOffset, type FileOffset } from '../../../src/base/brand.ts';
import { Planner, type SitePlan } from '../../../src/engines/jump/planner.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { firstRelocated, textRelocations } from '../../../src/symbols/text-relocations.ts';
import { skipUnless } from '../../harness/features.ts';
import { compileFixture } from '../../harness/fixtures.ts';

const FLAGS = ['-nostdlib', '-static-pie', '-fPIE'];

function parts(flags: readonly string[]): ElfFile {
  const path = compileFixture({ sources: ['parts.S'], language: 'asm', flags });
  return ElfFile.open(readFileSync(path), path);
}

/** A library of one file in assembly. */
function libraryOf(source: string, ...flags: readonly string[]): ElfFile {
  const path = compileFixture({
    sources: [source],
    language: 'asm',
    flags: ['-shared', '-fPIC', '-nostdlib', ...flags],
    name: `lib${source.replace('.S', '.so')}`,
  });
  return ElfFile.open(readFileSync(path), path);
}

function offsetOf(elf: ElfFile, name: string): FileOffset {
  const [symbol] = SymbolTable.of(elf, { demangle: () => undefined }).find(name);
  return symbol?.offset ?? assert.fail(`no ${name}`);
}

function planAt(elf: ElfFile, offset: number): SitePlan {
  const [plan] = new Planner(elf).plan([fileOffset(offset)]);
  return plan?.kind === 'plan' ? plan : assert.fail(plan?.reason);
}

function whyNoJump({ ways, rejected }: SitePlan): string {
  assert.ok(ways.every(({ method }) => method !== 'jump'));
  return rejected.find(({ method }) => method === 'jump')?.reason ?? '';
}

test('the table of a function leads into the part of it that was moved away', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = parts(FLAGS);
  const cold = offsetOf(elf, 'pick.cold');
  // Two bytes on, where the table leads.
  assert.match(whyNoJump(planAt(elf, cold)), /2 bytes on a jump table leads there/);
  const [way] = planAt(elf, cold + 2).ways;
  assert.equal(way?.method, 'jump', 'nothing comes behind it');
});

test('the same in a file without names: the unwind tables alone have the parts', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const whole = parts(FLAGS);
  const cold = offsetOf(whole, 'pick.cold');
  const elf = parts([...FLAGS, '-s']);
  assert.deepEqual(elf.bytes.subarray(cold, cold + 6), whole.bytes.subarray(cold, cold + 6));
  assert.match(whyNoJump(planAt(elf, cold)), /2 bytes on a jump table leads there/);
});

test('data behind a return is no code, whatever its bytes look like', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const path = compileFixture({ sources: ['data-behind.S'], language: 'asm', flags: FLAGS });
  const bytes = readFileSync(path);
  const elf = ElfFile.open(bytes, path);
  const planner = new Planner(elf);
  const start = offsetOf(elf, 'text_of');
  const text = bytes.indexOf('rc4(16x', start);
  assert.ok(text > start);
  const code = planner.boundaries(start).filter((at) => at < text - 8);
  const data = planner.boundaries(start).filter((at) => at >= text);
  assert.ok(code.length > 4 && data.length > 2);
  assert.equal(planner.plan(code).filter(({ kind }) => kind === 'refused').length, 0);
  for (const plan of planner.plan(data)) {
    assert.equal(plan.kind, 'refused', `0x${plan.offset.toString(16)}`);
  }
  assert.match(planner.boundary(data[0] ?? start) ?? '', /may be data/);
});

test('text behind a call of the function into itself is no code', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = libraryOf('data-behind-call.S');
  const bytes = Buffer.from(elf.bytes);
  const planner = new Planner(elf);
  const start = offsetOf(elf, 'text_of');
  const text = bytes.indexOf('rc4(16x', start);
  const behind = bytes.indexOf(0, text) + 1;
  const boundaries = planner.boundaries(start);
  const data = boundaries.filter((at) => at >= text && at < behind);
  assert.ok(data.length > 2);
  for (const plan of planner.plan(data)) {
    assert.equal(plan.kind, 'refused', `0x${plan.offset.toString(16)}`);
  }
  const code = planner.plan(boundaries.filter((at) => at < text));
  assert.deepEqual(
    code.map(({ kind }) => kind),
    ['plan', 'plan'],
  );
});

function coldParts(...flags: readonly string[]): ElfFile {
  const path = compileFixture({ sources: ['cold.S'], flags: [...FLAGS, ...flags] });
  return ElfFile.open(readFileSync(path), path);
}

test('a part that a table alone leads into is told by its name; without one it may be a part of any function', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = coldParts();
  const stripped = coldParts('-s');
  const cold = offsetOf(elf, 'f.cold');
  assert.match(whyNoJump(planAt(elf, cold)), /2 bytes on a jump table leads there/);
  assert.match(whyNoJump(planAt(stripped, cold)), /nothing is seen to come to its function/);
  // The others are jumped to, or jump there.
  for (const [name, nth] of [
    ['g.cold', 0],
    ['h', 3],
  ] as const) {
    const place = new Planner(elf).boundaries(offsetOf(elf, name))[nth] ?? assert.fail(name);
    for (const one of [elf, stripped]) {
      assert.match(whyNoJump(planAt(one, place)), /2 bytes on a jump table leads there/, name);
    }
  }
  assert.equal(planAt(stripped, offsetOf(elf, 'f')).ways[0]?.method, 'jump', 'it is called');
});

test('a function that lies in another has its table, too', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = coldParts();
  const reason = whyNoJump(planAt(elf, offsetOf(elf, 'inner')));
  assert.match(reason, /2 bytes on a jump table leads there/);
});

test('a jump of the moved part into its function is seen, and who comes is told', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = parts(FLAGS);
  const planner = new Planner(elf);
  const pick = offsetOf(elf, 'pick');
  const boundaries = planner.boundaries(pick);
  const caseZero = boundaries.at(-3) ?? assert.fail();
  const landings = planner.examine(fileOffset(caseZero))?.landings ?? [];
  const reasons = landings.map(({ at, reason }) => `${at - caseZero}: ${reason}`);
  assert.ok(reasons.includes('0: a jump table leads there'), reasons.join('\n'));
  assert.ok(
    reasons.some((reason) => /^2: the branch at file offset 0x[0-9a-f]+ goes there$/.test(reason)),
    reasons.join('\n'),
  );
  assert.match(whyNoJump(planAt(elf, caseZero)), /2 bytes on the branch at file offset/);
});

test('a symbol inside a function leads there: another file may ask the linker for it', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = libraryOf('inner-symbols.S');
  for (const [outer, inner] of [
    ['outer', 'inner'],
    ['outer_plain', 'inner_plain'],
  ] as const) {
    const start = offsetOf(elf, outer);
    const landings = new Planner(elf).examine(start)?.landings ?? [];
    assert.deepEqual(landings, [{ at: start + 3, reason: `the symbol '${inner}' leads there` }]);
    assert.match(whyNoJump(planAt(elf, start)), new RegExp(`3 bytes on the symbol '${inner}'`));
    const [way] = planAt(elf, start + 3).ways;
    assert.equal(way?.method, 'jump', 'nothing comes behind it');
  }
});

test('what leads to the middle of an instruction is seen', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = libraryOf('inner-symbols.S');
  for (const [name, reason] of [
    ['outer_middle', /1 byte on the symbol 'inner_middle' leads there/],
    ['outer_pointed', /1 byte on a pointer in the data of the file leads there/],
  ] as const) {
    const plan = planAt(elf, offsetOf(elf, name));
    assert.match(whyNoJump(plan), reason);
    for (const { patchBytes } of plan.ways) assert.equal(patchBytes, 1, 'of a pun');
  }
});

for (const [how, flags] of [
  ['by its own address', []],
  ['by its distance from a symbol', ['-DBY_SYMBOL']],
] as const) {
  test(`padding ends where a word of data leads, ${how}, though nops stand there, too`, (t) => {
    if (skipUnless(t, 'gcc')) return;
    const elf = libraryOf('hidden-function.S', ...flags);
    const first = offsetOf(elf, 'first');
    const hidden = elf.addressOf(offsetOf(elf, 'second')) ?? assert.fail();
    const { ways } = planAt(elf, first + 4);
    const paddings = ways.flatMap((way) => way.paddings);
    assert.ok(paddings.length > 0, 'there is room in front of it');
    for (const padding of paddings) assert.ok(padding + 5n <= hidden - 16n, String(padding));
  });
}

test('a jump from another executable segment of the file is seen', (t) => {
  if (skipUnless(t, 'gcc')) return;
  // Apart in memory by more than in the file, then in one piece, which is how it was always seen.
  for (const flags of [
    ['-no-pie', '-Wl,--section-start=.slowtext=0x500000'],
    ['-no-pie', '-Wl,--section-start=.slowtext=0x300000'],
    ['-pie'],
  ]) {
    const path = compileFixture({ sources: ['two-texts.c', 'two-texts.S'], flags });
    const elf = ElfFile.open(readFileSync(path), path);
    assert.equal(elf.executableSegments().length, flags.length);
    const start = offsetOf(elf, 'split');
    const [, , , , last = start] = new Planner(elf).boundaries(start);
    assert.match(
      whyNoJump(planAt(elf, last)),
      /2 bytes on the branch at file offset 0x[0-9a-f]+ goes there/,
    );
  }
});

test('the cases of a computed goto through a retpoline are known to be code', (t) => {
  if (skipUnless(t, 'gcc')) return;
  for (const how of ['thunk', 'thunk-inline']) {
    const path = compileFixture({
      sources: ['computed.c'],
      flags: ['-O2', `-mindirect-branch=${how}`],
    });
    const elf = ElfFile.open(readFileSync(path), path);
    const planner = new Planner(elf);
    const starts = planner.boundaries(offsetOf(elf, 'run'));
    const refused = planner.plan(starts).filter(({ kind }) => kind === 'refused');
    for (const { offset } of refused) {
      // Filler between the cases; and what a processor may only believe to come to, behind the call of a retpoline.
      const bytes = Buffer.from(elf.bytes.subarray(offset, offset + 4)).toString('hex');
      assert.match(bytes, /^(?:66)*(?:90|0f1f)|^f390|^0faee8|^ebf9/, how);
    }
    const jumps = planner.plan(starts).filter((plan) => {
      return plan.kind === 'plan' && plan.ways[0]?.method === 'jump';
    });
    assert.ok(jumps.length > starts.length / 2, 'the table is read');
  }
});

test('a program that lies where it was linked to lie may hold addresses as plain numbers', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const sources = ['immediates.c', 'immediates.S'];
  const path = compileFixture({ sources, flags: ['-no-pie'] });
  const elf = ElfFile.open(readFileSync(path), path);
  const names = ['by_store', 'by_move', 'by_push', 'by_wide_move', 'by_displacement'];
  for (const name of names) {
    const boundaries = new Planner(elf).boundaries(offsetOf(elf, name));
    const clear = boundaries.at(-3) ?? assert.fail();
    const reason = whyNoJump(planAt(elf, clear));
    assert.match(reason, /2 bytes on code at file offset 0x[0-9a-f]+ takes its address/, name);
  }
  // Asked about together, they are what they are alone.
  const planner = new Planner(elf);
  const all = names.flatMap((name) => planner.boundaries(offsetOf(elf, name)));
  const plans = planner
    .plan(all)
    .map((plan) => (plan.kind === 'plan' ? plan : assert.fail(plan.reason)));
  plans.forEach((plan, at) => {
    const [alone] = new Planner(elf).plan([all[at] ?? assert.fail()]);
    assert.deepEqual(plan, alone);
  });
});

test('a table of addresses that the linker laid into the executable segment is seen', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const path = compileFixture({
    sources: ['table-in-text.c', 'table-in-text.S'],
    flags: ['-no-pie', '-Wl,-z,noseparate-code'],
  });
  const elf = ElfFile.open(readFileSync(path), path);
  const planner = new Planner(elf);
  const start = offsetOf(elf, 'step_at');
  const [, , , , , first = start, middle = start, , , alone = start] = planner.boundaries(start);
  const reasons = (planner.examine(middle)?.landings ?? [])
    .filter(({ at }) => at === middle)
    .map(({ reason }) => reason);
  // Since something points into the function, its jump may stay inside.
  assert.match(reasons.join('\n'), /a jump through a pointer may stay inside/);
  assert.match(whyNoJump(planAt(elf, first)), /3 bytes on/);
  // Behind a return: only the table shows that it is code.
  const [way] = planAt(elf, alone).ways;
  assert.equal(way?.method, 'jump');
});

test('constants between functions that look like filler are left as they are', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = libraryOf('data-like-filler.S');
  const planner = new Planner(elf);
  const waysAtEnd = (name: string): SitePlan => {
    const last = planner.boundaries(offsetOf(elf, name)).at(-1) ?? assert.fail(name);
    return planAt(elf, last);
  };
  for (const name of ['before_read', 'before_object', 'before_plain']) {
    assert.match(whyNoJump(waysAtEnd(name)), /1 byte on may be data/, name);
    for (const plan of planner.plan(planner.boundaries(offsetOf(elf, name)))) {
      assert.ok(plan.kind === 'plan', name);
      for (const { paddings } of plan.ways) assertApart(elf, paddings, name);
    }
  }
  // What is read begins four bytes on: before it nothing tells of what it would be filler for.
  assert.match(whyNoJump(waysAtEnd('before_immediate')), /1 byte on may be data/);
  assert.equal(waysAtEnd('before_true').ways[0]?.method, 'jump');
  const nop = planner.boundaries(offsetOf(elf, 'with_nop'))[2] ?? assert.fail();
  assert.match(planner.boundary(nop) ?? '', /may be data/);
});

/** None of the padding lies between the first function of the fixture and the last. */
function assertApart(elf: ElfFile, paddings: readonly bigint[], name: string): void {
  const start = elf.addressOf(offsetOf(elf, 'before_read')) ?? assert.fail();
  const end = elf.addressOf(offsetOf(elf, 'before_plain')) ?? assert.fail();
  for (const padding of paddings) assert.ok(padding < start || padding > end, name);
}

function relocatedText(): ElfFile {
  const path = compileFixture({
    sources: ['relocated-text.c'],
    flags: ['-O2', '-shared', '-mcmodel=large', '-fno-pic', '-nostdlib', '-Wl,-z,notext'],
    name: 'librelocated-text.so',
  });
  return ElfFile.open(readFileSync(path), path);
}

test('places that the dynamic linker writes to when it loads the file are refused', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const elf = relocatedText();
  const words = textRelocations(elf);
  assert.equal(words.haveOthers, false);
  assert.ok(words.offsets.length >= 2);
  const planner = new Planner(elf);
  let refused = 0;
  for (const name of ['step', 'start', 'alone']) {
    for (const plan of planner.plan(planner.boundaries(offsetOf(elf, name)))) {
      if (plan.kind === 'refused') {
        refused++;
        assert.match(plan.reason, /the dynamic linker writes there when it loads the file/);
        assert.notEqual(name, 'alone');
        continue;
      }
      const { offset, ways } = plan;
      for (const { displaced, method } of ways) {
        const end = offset + Math.max(displaced.byteLength, method === 'pun' ? 8 : 5);
        assert.equal(firstRelocated(words, offset, end), undefined, `${name}: ${offset}`);
      }
    }
  }
  assert.ok(refused >= 2);
});

test('where branches of a file are relocated, none of its places is proved', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const whole = relocatedText();
  const bytes = Buffer.from(whole.bytes);
  const table = whole.dynamic?.relocations ?? assert.fail();
  const at = bytes.indexOf(table);
  const isText = (word: number): boolean =>
    word >= Number(whole.addressOf(offsetOf(whole, 'step')));
  for (let entry = at; entry < at + table.byteLength; entry += 24) {
    // As if its displacement were one to a symbol of another file.
    if (isText(Number(bytes.readBigUInt64LE(entry)))) bytes.writeUInt32LE(R_X86_64_PC32, entry + 8);
  }
  const elf = ElfFile.open(bytes, 'relocated');
  assert.equal(textRelocations(elf).haveOthers, true);
  const [plan] = new Planner(elf).plan([offsetOf(elf, 'alone')]);
  assert.ok(plan?.kind === 'refused');
  assert.match(plan.reason, /branches may lead elsewhere then/);
});

const R_X86_64_PC32 = 2;
