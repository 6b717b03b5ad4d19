import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  compileTaskFilter,
  type ProcessFacts,
  type TaskFilter,
} from '../../../src/probe/task-filter.ts';

const SHELL: ProcessFacts = {
  pid: 30,
  ancestors: [20, 10, 1],
  comm: 'bash',
  executable: '/usr/bin/bash',
  uid: 1000,
  cgroup: '/user.slice/user-1000.slice',
};

const CASES: readonly (readonly [TaskFilter, boolean])[] = [
  [{}, true],
  [{ pids: [30] }, true],
  [{ pids: [20, 1] }, false],
  [{ trees: [30] }, true],
  [{ trees: [10] }, true],
  [{ trees: [31] }, false],
  [{ uids: [0, 1000] }, true],
  [{ uids: [0] }, false],
  [{ comm: 'ba*' }, true],
  [{ comm: 'ba' }, false],
  [{ executable: 'bash' }, true],
  [{ executable: '[a-c]ash' }, true],
  [{ executable: '/usr/bin/*' }, true],
  [{ executable: 'usr/bin/bash' }, false],
  [{ executable: '/bin/bash' }, false],
  [{ cgroup: '/user.slice' }, true],
  [{ cgroup: '/user.slice/' }, true],
  [{ cgroup: '/user.slice/*' }, true],
  [{ cgroup: '/user' }, false],
  [{ cgroup: '/' }, true],
  [{ accepts: ({ pid }) => pid === 30 }, true],
  [{ accepts: () => false }, false],
  [{ comm: 'bash', uids: [0] }, false],
  [{ comm: 'bash', trees: [20], accepts: () => true }, true],
];

for (const [filter, expected] of CASES) {
  test(`a shell and ${JSON.stringify(filter)}: ${expected}`, () => {
    assert.equal(compileTaskFilter(filter)(SHELL), expected);
  });
}

test('a predicate is asked last', () => {
  const filter = { comm: 'zsh', accepts: () => assert.fail('asked') };
  assert.equal(compileTaskFilter(filter)(SHELL), false);
});

test('a process of which little may be known passes no glob by accident', () => {
  const hidden = { ...SHELL, executable: '', cgroup: '' };
  assert.equal(compileTaskFilter({ executable: 'bash' })(hidden), false);
  assert.equal(compileTaskFilter({ cgroup: '/user.slice' })(hidden), false);
});

test('a filter that nothing can pass is a mistake, and is called so', () => {
  const wrong: readonly TaskFilter[] = [
    { pids: [] },
    { trees: [-1] },
    { uids: [1.5] },
    { comm: '' },
    { executable: '' },
    { cgroup: '' },
  ];
  for (const filter of wrong) {
    assert.throws(() => compileTaskFilter(filter), { code: 'usage' }, JSON.stringify(filter));
  }
});
