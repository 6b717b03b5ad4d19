/** Programs that come to the middle of functions in ways of their own: under probes they do what they do without. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

import { explain } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { countOf, run } from './cli-support.ts';

/**
 * Runs a program with each of the places probed alone, then with all of them.
 * @param places each instruction of a function, with how often it is executed
 */
async function assertUnchanged(
  words: readonly string[],
  places: ReadonlyMap<string, number>,
): Promise<void> {
  const [program = '', ...others] = words;
  const plain = spawnSync(program, others, { encoding: 'utf8' });
  assert.equal(plain.status, 0, plain.stderr);
  const each = [...places.keys()].map((place) => [place]);
  for (const chosen of [...each, [...places.keys()]]) {
    const named = chosen.map((place, at) => `p:t/at_${at} ${place}`);
    const traced = await run('trace', '--count', ...named, '--', ...words);
    assert.equal(traced.status, 0, `${chosen.join(' ')}: ${traced.err}`);
    assert.equal(traced.out, plain.stdout, chosen.join(' '));
    chosen.forEach((place, at) => {
      assert.equal(countOf(traced.err, `t:at_${at}`, 'hits'), places.get(place), place);
    });
  }
}

/** The instructions of a function from its start on, as far as numbers are given, with how often each is executed. */
async function instructionsOf(
  name: string,
  path: string,
  hits: readonly number[],
): Promise<ReadonlyMap<string, number>> {
  const [whole] = await explain(`${name}@${path}`);
  const start = whole?.offset ?? assert.fail(`no ${name}`);
  const code = whole?.code.filter(({ offset }) => offset >= start) ?? [];
  return new Map(
    hits.map((count, at) => {
      const offset = code[at]?.offset ?? assert.fail(`${name} is shorter`);
      return [`${path}:0x${offset.toString(16)}`, count];
    }),
  );
}

test('symbols inside functions, asked for by another file', async () => {
  const library = compileFixture({
    sources: ['inner-symbols.S'],
    language: 'asm',
    flags: ['-shared', '-fPIC', '-nostdlib'],
    name: 'libinner.so',
  });
  const program = compileFixture({ sources: ['inner-symbols.c'] });
  const hits = [1000, 1000, 2000, 2000, 2000];
  const places = new Map([
    ...(await instructionsOf('outer', library, hits)),
    ...(await instructionsOf('outer_plain', library, hits)),
  ]);
  await assertUnchanged([program, library], places);
});

test('a function that begins with nops, to which only a word of data leads', async () => {
  const program = compileFixture({ sources: ['hidden-function.c', 'hidden-function.S'] });
  const places = await instructionsOf('first', program, [1000, 1000, 1000, 999, 999, 1]);
  await assertUnchanged([program], places);
});

test('a jump from another executable segment of the file', async () => {
  const program = compileFixture({
    sources: ['two-texts.c', 'two-texts.S'],
    flags: ['-no-pie', '-Wl,--section-start=.slowtext=0x500000'],
  });
  const hits = [1000, 1000, 1000, 1000, 500];
  await assertUnchanged([program], await instructionsOf('split', program, hits));
});

test('addresses that instructions hold as plain numbers', async () => {
  const program = compileFixture({
    sources: ['immediates.c', 'immediates.S'],
    flags: ['-no-pie'],
  });
  const places = new Map([
    ...(await instructionsOf('by_store', program, [1000, 1000, 1000, 2000])),
    ...(await instructionsOf('by_push', program, [1000, 1000, 1000, 1000, 2000])),
    ...(await instructionsOf('by_wide_move', program, [1000, 1000, 1000, 1000, 2000])),
  ]);
  await assertUnchanged([program], places);
});

test('addresses in constants that lie with the code', async () => {
  const program = compileFixture({
    sources: ['table-in-text.c', 'table-in-text.S'],
    flags: ['-no-pie', '-Wl,-z,noseparate-code'],
  });
  const [start] = (await instructionsOf('step_at', program, [3000])).keys();
  const offset = Number(start?.split(':').at(-1));
  const at = (bytes: number): string => `${program}:0x${(offset + bytes).toString(16)}`;
  // The one behind the jump, the middle that the table leads to, and what only the table leads to.
  await assertUnchanged(
    [program],
    new Map([
      [at(9), 1000],
      [at(12), 2000],
      [at(17), 1000],
    ]),
  );
});
