/** What the tests of definitions share: random definitions, mutated text, marked columns. */

import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { fileOffset } from '../../../src/base/brand.ts';
import { TraplineError } from '../../../src/base/errors.ts';
import { parseDefinition, printDefinition } from '../../../src/probe/definition.ts';
import type { ProbeDefinition } from '../../../src/probe/definition.ts';
import type { ProbeLocation } from '../../../src/probe/location.ts';
import type { Fetch, ProgramArgument } from '../../../src/probe/program.ts';
import { ARGUMENT_REGISTERS } from '../../../src/probe/registers.ts';
import { FIELD_TYPES } from '../../../src/probe/types.ts';

/** A text in which `^` marks a column, taken apart. */
export function marked(line: string): { text: string; column: number } {
  const column = line.indexOf('^');
  assert.ok(column >= 0, `no mark in ${line}`);
  return { text: line.slice(0, column) + line.slice(column + 1), column };
}

/** The error that a definition is refused with. */
export function refusalOf(text: string, acceptAlso = false): TraplineError {
  try {
    parseDefinition(text);
  } catch (error) {
    assert.ok(error instanceof TraplineError, `${text}: ${String(error)}`);
    assert.equal(error.code, 'bad-definition');
    return error;
  }
  assert.ok(acceptAlso, `accepted: ${text}`);
  return new TraplineError({
    code: 'bad-definition',
    message: 'accepted',
    position: { text, column: 0 },
  });
}

/** A definition without the text that it was written as. */
export function tree({ location, arguments: list }: ProbeDefinition): object {
  return { location, arguments: list };
}

/** Records with the prototype of an object literal, which deepEqual compares too. */
const PLAIN = { noNullPrototype: true } as const;

const names = fc
  .string({ unit: fc.constantFrom(...Array.from('abz_09@+:%\'"\\ ()[]*?.,~<>&=-$!/é\u{1f600}\n')) })
  .filter((name) => name !== '');

/** Patterns as the parser writes them: a backslash stands before a special character only. */
const patterns = fc
  .array(
    fc.constantFrom('*', '?', '[a', ']', '\\*', '\\?', '\\[', '\\\\', 'a', '@', '+', "'", ' '),
    {
      minLength: 1,
    },
  )
  .map((parts) => parts.join(''))
  .filter((pattern) => /[*?[]/.test(pattern.replaceAll(/\\./g, '')));

const offsets = fc.nat({ max: Number.MAX_SAFE_INTEGER });

const locations: fc.Arbitrary<ProbeLocation> = fc.oneof(
  fc.record(
    {
      kind: fc.constant('function' as const),
      name: names,
      offset: fc.oneof(fc.constant(0), offsets),
      isGlob: fc.constant(false),
      file: names,
    },
    PLAIN,
  ),
  fc.record(
    {
      kind: fc.constant('function' as const),
      name: patterns,
      offset: fc.constant(0),
      isGlob: fc.constant(true),
      file: names,
    },
    PLAIN,
  ),
  fc.record(
    {
      kind: fc.constant('offset' as const),
      file: names,
      offset: offsets.map((offset) => fileOffset(offset)),
    },
    PLAIN,
  ),
);

const bases: fc.Arbitrary<Fetch> = fc.oneof(
  fc
    .constantFrom(...ARGUMENT_REGISTERS, 'rax' as const, 'rip' as const, 'flags' as const)
    .map((register): Fetch => ({ kind: 'register', register })),
  fc.nat({ max: 2 ** 28 - 1 }).map((index): Fetch => ({ kind: 'stack', index })),
);

const loads: fc.Arbitrary<Fetch> = fc
  .tuple(bases, fc.array(fc.bigInt({ min: -4096n, max: 4096n }), { minLength: 1, maxLength: 4 }))
  .map(([base, path]) =>
    path.reduce<Fetch>((at, offset) => ({ kind: 'load', base: at, offset }), base),
  );

const bodies: fc.Arbitrary<Omit<ProgramArgument, 'name'>> = fc.oneof(
  fc.constant({ type: 'string' as const, fetch: { kind: 'comm' } as const }),
  fc.record(
    {
      type: fc.constantFrom(...FIELD_TYPES.filter((type) => type !== 'string')),
      fetch: bases,
    },
    PLAIN,
  ),
  fc.record({ type: fc.constantFrom(...FIELD_TYPES), fetch: loads }, PLAIN),
);

const argumentLists: fc.Arbitrary<ProgramArgument[]> = fc.uniqueArray(
  fc
    .tuple(fc.stringMatching(/^[A-Za-z_]\w{0,31}$/), bodies)
    .map(([name, body]) => ({ name, ...body })),
  { maxLength: 5, selector: ({ name }) => name },
);

/** Any definition that a text can stand for. Its `text` is not that text. */
export const definitions: fc.Arbitrary<ProbeDefinition> = fc.record(
  {
    location: locations,
    arguments: argumentLists,
    text: fc.constant(''),
  },
  PLAIN,
);

const SCRAPS = [
  ...Array.from('@+-:%$()[]\'"\\ =*?08xu'),
  '%di',
  '$arg1',
  '$stack',
  '$comm',
  ':string',
  ':u8',
  '+0(',
  ' if ',
  '%return',
  '\0',
];

/** Text of a definition in which some characters were replaced by scraps of the grammar. */
export const mutations: fc.Arbitrary<string> = fc
  .tuple(
    definitions.map(printDefinition),
    fc.array(fc.tuple(fc.nat(), fc.nat({ max: 3 }), fc.constantFrom(...SCRAPS)), { maxLength: 4 }),
  )
  .map(([text, edits]) =>
    edits.reduce((current, [place, removed, scrap]) => {
      const at = place % (current.length + 1);
      return current.slice(0, at) + scrap + current.slice(at + removed);
    }, text),
  );
