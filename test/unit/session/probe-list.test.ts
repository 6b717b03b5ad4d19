import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TraplineError } from '../../../src/base/errors.ts';
import { parseProbes } from '../../../src/session/probes/probe-list.ts';

const LINES = [
  'p:g/b /x/t:0x1139 %di a=+8(%si):u32',
  'p:g/b /x/t:0x113d %di a=+8(%si):u32',
  'p:g/c /x/t:0x1139 $arg1',
  'p:g/d /x/t:0x1139(0x20)',
  'p:g/f main@zsh %di',
  'zfree@zsh',
];

/** Which of {@link LINES} a removal leaves. */
function left(removal: string): number[] {
  const probes = parseProbes([...LINES, removal].join('\n'), 'list');
  return probes.map(({ definition }) => LINES.indexOf(definition));
}

function refused(removal: string): TraplineError {
  try {
    left(removal);
  } catch (error) {
    assert.ok(error instanceof TraplineError);
    return error;
  }
  return assert.fail(removal);
}

test('each probe has its line, and the events that it may have', () => {
  const text = `# some\n\n${LINES.join('\n\n')}\n-:g/f\n*alloc@libc.so.6\np:g/all *alloc@libc.so.6\n`;
  assert.deepEqual(
    parseProbes(text, 'some').map(({ origin, events }) => [origin, events]),
    [
      ['some:3', 'g/b'],
      ['some:5', 'g/b'],
      ['some:7', 'g/c'],
      ['some:9', 'g/d'],
      ['some:13', 'probe_zsh/zfree'],
      ['some:15', 'probe_libc/*'],
      ['some:16', 'g/all'],
    ],
  );
});

test('a removal takes an event, or those of its places that begin as it says', () => {
  const place = '/x/t:0x0000000000001139';
  const cases: readonly (readonly [string, readonly number[]])[] = [
    ['-:g/b', [2, 3, 4, 5]],
    ['-:g/', [5]],
    ['-:probe_zsh/zfree', [0, 1, 2, 3, 4]],
    [`-:g/b ${place}`, [1, 2, 3, 4, 5]],
    [`-:g/b   ${place} \t arg1=%di`, [1, 2, 3, 4, 5]],
    [`-:g/b ${place} arg1=%di a=+8(%si):u32`, [1, 2, 3, 4, 5]],
    [`-:g/ ${place}`, [1, 3, 4, 5]],
    [`-:g/d ${place}(0x20)`, [0, 1, 2, 4, 5]],
    ['-:g/f main@zsh arg1=%di', [0, 1, 2, 3, 5]],
  ];
  for (const [removal, expected] of cases) assert.deepEqual(left(removal), expected, removal);
});

test('a removal that means nothing says how the places are listed', () => {
  const place = '/x/t:0x0000000000001139';
  for (const behind of [
    '/x/t:0x1139',
    '/x/t',
    `${place} %di`,
    `${place} a=+8(%si):u32`,
    `${place} arg1=%di a=+8(%si)`,
    `${place} arg1=%di a=+8(%si):u32 z=%di`,
    `${place} arg1=%di if arg1 == 1`,
  ]) {
    const { message, hint, position } = refused(`-:g/b  ${behind}`);
    assert.equal(message, 'list:7: no line before this one defines that event there');
    assert.match(
      hint ?? '',
      /^it is listed as \/x\/t:0x0000000000001139 arg1=%di a=\+8\(%si\):u32, and/,
    );
    assert.equal(position?.column, 7);
  }
  const { message, hint, position } = refused('-:g/none /x/t:0x1139');
  assert.equal(message, 'list:7: no line before this one defines that event');
  assert.deepEqual([hint, position?.column], [undefined, 2]);
});
