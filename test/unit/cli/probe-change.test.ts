import assert from 'node:assert/strict';
import { test } from 'node:test';

import { change, type Changed, type ChangedSession } from '../../../src/cli/probe-change.ts';
import { parseProbes } from '../../../src/session/probes/probe-list.ts';

/** Takes every probe but those of a function `bad…`, and notes what it is asked for. */
function sessionWith(lines: readonly string[]): ChangedSession & { calls: string[] } {
  const probes: { definition: string }[] = lines.map((definition) => ({ definition }));
  const calls: string[] = [];
  const session = {
    probes,
    calls,
    add: async ({ definition }: { definition: string }) => {
      calls.push(`+${definition}`);
      if (definition.includes('bad')) throw new Error(definition);
      const probe = { definition };
      probes.push(probe);
      return probe;
    },
    remove: async (probe: { definition: string }) => {
      calls.push(`-${probe.definition}`);
      probes.splice(probes.indexOf(probe), 1);
    },
  };
  // Definitions are all that is looked at.
  return session as unknown as ReturnType<typeof sessionWith>;
}

interface Outcome {
  readonly calls: readonly string[];
  readonly left: readonly string[];
  readonly changed: Changed;
}

/** Changes a file from some lines to others; those in both are left alone by whoever asks. */
async function changing(before: readonly string[], after: readonly string[]): Promise<Outcome> {
  const session = sessionWith(before);
  const old = parseProbes(before.join('\n'), 'old').filter(
    ({ definition }) => !after.includes(definition),
  );
  const gone = old.map((line) => {
    const probe = session.probes.find(({ definition }) => definition === line.definition);
    return { line, probe: probe ?? assert.fail(line.definition) };
  });
  const news = parseProbes(after.join('\n'), 'new').filter(
    ({ definition }) => !before.includes(definition),
  );
  const changed = await change(session, { gone, news, requestOf: (line) => line });
  const left = session.probes.map(({ definition }) => definition).toSorted();
  return { calls: session.calls, left, changed };
}

test('new lines come in before those that are gone come out', async () => {
  const { calls, left, changed } = await changing(['a@x', 'b@x'], ['b@x', 'c@x', 'd@y']);
  assert.deepEqual(calls, ['+c@x', '+d@y', '-a@x']);
  assert.deepEqual(left, ['b@x', 'c@x', 'd@y']);
  assert.deepEqual([changed.added.length, changed.removed.length, changed.problems], [2, 1, []]);
});

test('a line that can not be added changes nothing, and every such line is told', async () => {
  const { calls, left, changed } = await changing(['a@x'], ['bad1@x', 'c@x', 'bad2@x']);
  assert.deepEqual(calls, ['+bad1@x', '+c@x', '+bad2@x', '-c@x']);
  assert.deepEqual(left, ['a@x']);
  assert.deepEqual([changed.added, changed.removed], [[], []]);
  assert.deepEqual(changed.problems.map(String), ['Error: bad1@x', 'Error: bad2@x']);
});

for (const [what, before, after] of [
  ['the same function', 'a@x', 'a@x %di'],
  ['a named event', 'p:g/e a@x', 'p:g/e a@x %di'],
  ['a function and a glob of its file', 'a@x', '*@x'],
  ['a glob and a function of its file', '*@x', 'a@x'],
  ['a generated name and a named one', 'a@x', 'p:probe_x/a b@y'],
] as const) {
  test(`what has the event of a new line goes first: ${what}`, async () => {
    const { calls, changed } = await changing([before, 'z@y'], [after, 'c@y']);
    assert.deepEqual(calls, ['+c@y', `-${before}`, `+${after}`, '-z@y']);
    assert.deepEqual([changed.added.length, changed.removed.length], [2, 2]);
  });
}

test('what went first comes back where the new line can not be added', async () => {
  const { calls, left, changed } = await changing(
    ['p:g/e a@x', 'z@y'],
    ['p:g/e bad@x', 'p:g/e also@x', 'c@y'],
  );
  assert.deepEqual(calls, [
    '+c@y',
    '-p:g/e a@x',
    '+p:g/e bad@x',
    '+p:g/e also@x',
    '-c@y',
    '-p:g/e also@x',
    '+p:g/e a@x',
  ]);
  assert.deepEqual(left, ['p:g/e a@x', 'z@y']);
  assert.deepEqual([changed.added, changed.removed], [[], []]);
  assert.deepEqual(changed.problems.map(String), ['Error: p:g/e bad@x']);
});
