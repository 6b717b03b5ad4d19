import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { TraplineError } from '../../../src/base/errors.ts';
import { parseDefinition, printDefinition } from '../../../src/probe/definition.ts';
import { parseFilter, printFilter } from '../../../src/probe/filter-text.ts';
import type { FilterTree } from '../../../src/probe/filter.ts';
import { globPattern, matchesPattern } from '../../../src/probe/pattern.ts';
import { REFUSALS } from '../../../src/probe/refusals.ts';

const corpus = readFileSync(
  new URL('../../../../test/corpus/filters.txt', import.meta.url),
  'utf8',
);
const [head = '', ...blocks] = corpus.split('\n\n');
const ARGUMENTS = /arguments (.*)/.exec(head)?.[1] ?? assert.fail('no arguments');
const fields = parseDefinition(`f@x ${ARGUMENTS}`).arguments;

/** What the kernel calls one too far: mistakes within a term. */
const WITHIN_A_TERM: ReadonlySet<string> = new Set([
  REFUSALS.invalidOperator,
  REFUSALS.operandTooLong,
  REFUSALS.expectString,
  REFUSALS.expectDigit,
  REFUSALS.illegalFieldOperator,
  REFUSALS.illegalInteger,
  REFUSALS.invalidValue,
]);

function parse(text: string): FilterTree {
  return parseFilter(text, { text, column: 0 }, fields);
}

/** `=`, or `! COLUMN MESSAGE`. */
function outcomeOf(text: string): string {
  try {
    parse(text);
    return '=';
  } catch (error) {
    assert.ok(error instanceof TraplineError && error.code === 'bad-definition', String(error));
    const { position } = error;
    assert.ok(position !== undefined && position.text === text);
    assert.ok(position.column >= 0 && position.column <= text.length, text);
    return `! ${position.column} ${error.message}`;
  }
}

/** The kernel's outcome with the column that it means. */
function meant(outcome: string): string {
  const [, column = '', message = ''] = /^! (\d+) (.*)$/.exec(outcome) ?? [];
  return WITHIN_A_TERM.has(message) ? `! ${Number(column) - 1} ${message}` : outcome;
}

test('filters are accepted and refused as the kernel does, or for a reason', () => {
  assert.ok(blocks.length > 130);
  for (const block of blocks) {
    const [text = '', kernel = '', reason, ours] = block.trimEnd().split('\n');
    const outcome = outcomeOf(text);
    if (reason === undefined) assert.equal(outcome, meant(kernel), text);
    else assert.equal(outcome, ours, text);
    if (reason !== undefined) assert.notEqual(ours, meant(kernel), text);
  }
});

const integers = fc.constantFrom('a', 'x', 'b', 'n', 'c', 'bf', 'common_pid', 'cpu', '__probe_ip');
const texts = fc.constantFrom('s', 'ss', 'comm', 'comm2', 'COMM');
const terms = fc.oneof(
  fc
    .tuple(
      integers,
      fc.constantFrom('==', '!=', '<', '<=', '>', '>=', '&'),
      fc.nat({ max: 2 ** 31 - 1 }),
    )
    .map(([field, operator, value]) => `${field} ${operator} ${value}`),
  fc
    .tuple(fc.constantFrom('s8'), fc.integer({ min: -128, max: 127 }))
    .map(([field, value]) => `${field}<${value}`),
  fc
    .tuple(
      texts,
      fc.constantFrom('==', '!=', '~'),
      fc.string({ unit: fc.constantFrom('a', '*', '?', '[', ']', '!', "'", '\\', ' ', 'é') }),
    )
    .map(([field, operator, value]) => `${field}${operator}"${value}"`),
);
const { filter: filters } = fc.letrec<{ filter: string; group: string }>((tie) => ({
  filter: fc
    .tuple(
      tie('group'),
      fc.array(fc.tuple(fc.constantFrom('&&', '||', ' && ', ' || '), tie('group')), {
        maxLength: 3,
      }),
    )
    .map(([first, rest]) => first + rest.map(([sign, group]) => sign + group).join('')),
  group: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    terms,
    tie('filter').map((inner) => `(${inner})`),
    tie('filter').map((inner) => `!(${inner})`),
    terms.map((term) => `! ${term}`),
  ),
}));

test('parse(print(x)) is x', () => {
  fc.assert(
    fc.property(filters, (text) => {
      const tree = parse(text);
      assert.deepEqual(parse(printFilter(tree)), tree, text);
      // Each term on a text of the target takes room: a dozen of them fit.
      fc.pre(text.split(/\bss?[=!~]/).length <= 8);
      const definition = parseDefinition(`f@x ${ARGUMENTS} if ${text}`);
      assert.deepEqual(parseDefinition(printDefinition(definition)).filter, definition.filter);
    }),
    { numRuns: 2000 },
  );
});

test('random and mutated filters are parsed, or refused with a column', () => {
  const scraps = [
    '(',
    ')',
    '!',
    '&&',
    '||',
    '"',
    "'",
    '==',
    '~',
    ' ',
    'a',
    '1',
    '-',
    '&',
    '\0',
    'é',
    '<',
    'CPUS{1}',
  ];
  const mutations = fc
    .tuple(
      filters,
      fc.array(fc.tuple(fc.nat(), fc.nat({ max: 3 }), fc.constantFrom(...scraps)), {
        maxLength: 4,
      }),
    )
    .map(([text, edits]) =>
      edits.reduce((current, [place, removed, scrap]) => {
        const at = place % (current.length + 1);
        return current.slice(0, at) + scrap + current.slice(at + removed);
      }, text),
    );
  const seen = { accepted: 0, refused: 0 };
  const check = (text: string): void => {
    if (outcomeOf(text) === '=') {
      assert.deepEqual(parse(printFilter(parse(text))), parse(text), text);
      seen.accepted++;
    } else {
      seen.refused++;
    }
  };
  fc.assert(fc.property(mutations, check), { numRuns: 5000 });
  fc.assert(fc.property(fc.string({ unit: 'binary' }), check), { numRuns: 1000 });
  assert.ok(seen.accepted > 300 && seen.refused > 300, JSON.stringify(seen));
});

test('long filters are dealt with in time that grows with their length only', () => {
  for (const text of [
    '('.repeat(100_000),
    `${'!'.repeat(100_000)}a==1`,
    `${'a==1&&'.repeat(30_000)}a==1`,
    `${'('.repeat(50_000)}a==1${')'.repeat(50_000)}`,
  ]) {
    const started = process.hrtime.bigint();
    assert.notEqual(outcomeOf(text), '=');
    assert.ok(process.hrtime.bigint() - started < 3_000_000_000n, text.slice(0, 10));
  }
});

const PARTS: Readonly<Record<string, string>> = { '*': '[^]*', '?': '[^]', '[!a]': '[^a]' };

function expressionOf(glob: readonly string[]): RegExp {
  return new RegExp(`^${glob.map((part) => PARTS[part] ?? part).join('')}$`);
}

test('patterns match as the same regular expression does', () => {
  const parts = fc.constantFrom('*', '?', 'a', 'b', '[ab]', '[!a]', '[a-b]');
  fc.assert(
    fc.property(
      fc.array(parts, { maxLength: 7 }),
      fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 10 }),
      (glob, text) => {
        assert.equal(
          matchesPattern(globPattern(glob.join('')), Buffer.from(text)),
          expressionOf(glob).test(text),
        );
      },
    ),
    { numRuns: 5000 },
  );
});
