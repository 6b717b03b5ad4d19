import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';

import { TraplineError } from '../../../src/base/errors.ts';
import { splitFilter } from '../../../src/engines/jump/filter-code.ts';
import { ReadPlan } from '../../../src/engines/jump/reads.ts';
import { parseLine, printDefinition, type ProbeDefinition } from '../../../src/probe/definition.ts';
import { layoutOf, type Program } from '../../../src/probe/program.ts';
import { isLong } from '../../harness/features.ts';
import { Random } from '../../harness/random.ts';
import { mutatedDefinition, randomDefinition } from '../probe/random-definitions.ts';

const COUNT = isLong() ? 10_000_000 : 60_000;
const SEED = 0x7a91;

/** What came of a text; throws where it is neither. */
function outcomeOf(text: string): 'accepted' | 'removal' | 'refused' {
  let line;
  try {
    line = parseLine(text);
  } catch (error) {
    assert.ok(error instanceof TraplineError && error.code === 'bad-definition', String(error));
    const { position } = error;
    assert.ok(position !== undefined && position.text === text);
    assert.ok(position.column >= 0 && position.column <= text.length, `${position.column}`);
    assert.ok(Number.isInteger(position.column) && error.message !== '');
    return 'refused';
  }
  if (!('location' in line)) return 'removal';
  checkRoundTrip(line);
  checkPlan(line);
  return 'accepted';
}

function checkRoundTrip(definition: ProbeDefinition): void {
  const printed = printDefinition(definition);
  const again = parseLine(printed);
  assert.ok(
    isDeepStrictEqual({ ...again, text: '' }, { ...definition, text: '' }),
    `printed as ${printed}`,
  );
}

/** What is accepted has room for all that it reads. */
function checkPlan({ arguments: fetched, filter }: ProbeDefinition): void {
  for (const action of ['record', 'count'] as const) {
    const program: Program = { arguments: action === 'record' ? fetched : [], filter, action };
    const plan = new ReadPlan(program, layoutOf(program), splitFilter(filter).late);
    assert.ok(plan.recordGroups.length >= 0);
  }
}

test(`${COUNT} random and mutated definitions and filters: parsed and printed back, or refused with a column`, () => {
  const random = new Random(SEED);
  const seen = { accepted: 0, removal: 0, refused: 0 };
  for (let number = 0; number < COUNT; number++) {
    const text = number % 2 === 0 ? randomDefinition(random) : mutatedDefinition(random);
    try {
      seen[outcomeOf(text)]++;
    } catch (error) {
      throw new Error(`definition ${number} of seed ${SEED}: ${JSON.stringify(text)}`, {
        cause: error,
      });
    }
  }
  const least = COUNT / 20;
  assert.ok(seen.accepted > least && seen.refused > least, JSON.stringify(seen));
});
