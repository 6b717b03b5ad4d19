import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseDefinition } from '../../../src/probe/definition.ts';
import { EventNames, generateEventName, MAX_EVENT_NAME } from '../../../src/probe/names.ts';
import { definitions } from './support.ts';

const NAMES: readonly (readonly [text: string, name: string])[] = [
  ['zfree@zsh', 'probe_zsh:zfree'],
  ['zfree@/bin/zsh', 'probe_zsh:zfree'],
  ['malloc@libc.so.6', 'probe_libc:malloc'],
  ['malloc@/usr/lib/x86_64-linux-gnu/libc-2.31.so', 'probe_libc_2_31:malloc'],
  ['f@libstdc++.so.6.0.30', 'probe_libstdc:f'],
  ['f@python3.11', 'probe_python3_11:f'],
  ['f@/opt/7zip', 'probe_7zip:f'],
  ['__libc_start_main@libc', 'probe_libc:__libc_start_main'],
  ['zfree+8@zsh', 'probe_zsh:zfree_0x8'],
  ['memcpy@@GLIBC_2.14@libc.so.6', 'probe_libc:memcpy'],
  ["'ns::f(int, char*)'@libx", 'probe_libx:ns_f_int_char'],
  ['"operator+"@libx', 'probe_libx:operator'],
  ["'é'@libx", 'probe_libx:_'],
  ["'1up'@libx", 'probe_libx:_1up'],
  ['f.cold@x', 'probe_x:f_cold'],
  ['dgemm_@x', 'probe_x:dgemm_'],
  ['/bin/zsh:0x4245c0', 'uprobes:p_zsh_0x4245c0'],
  ['libc.so.6:0x10', 'uprobes:p_libc_0x10'],
  ['/usr/bin/python3.11:16', 'uprobes:p_python3_0x10'],
];

test('generated names', () => {
  for (const [text, expected] of NAMES) {
    const { group, event } = generateEventName(parseDefinition(text).location);
    assert.equal(`${group}:${event}`, expected, text);
  }
});

test('a name that is taken gets a number, and can be given back', () => {
  const names = new EventNames();
  const wanted = { group: 'probe_zsh', event: 'zfree' };
  const first = names.take(wanted);
  assert.deepEqual(first, wanted);
  assert.equal(names.take(wanted).event, 'zfree_1');
  assert.equal(names.take(wanted).event, 'zfree_2');
  assert.equal(names.take({ group: 'probe_bash', event: 'zfree' }).event, 'zfree');
  names.release(first);
  assert.equal(names.take(wanted).event, 'zfree');
  assert.equal(names.take(wanted).event, 'zfree_3');
});

test('every generated name of a function is a C identifier; all are short enough, and their own', () => {
  fc.assert(
    fc.property(fc.array(definitions, { maxLength: 20 }), fc.nat({ max: 90 }), (list, length) => {
      const names = new EventNames();
      const seen = new Set<string>();
      for (const { location } of list) {
        const file = 'file' in location ? location.file : '';
        const long =
          'file' in location ? { ...location, file: `${file}/${'x'.repeat(length)}` } : location;
        for (const named of [location, long, long]) {
          const { group, event } = names.take(generateEventName(named));
          assert.match(group, /^[A-Za-z_]\w*$/);
          // The kernel's names of file offsets are not always.
          if (location.kind === 'function') assert.match(event, /^[A-Za-z_]\w*$/);
          assert.ok(group.length <= MAX_EVENT_NAME && event.length <= MAX_EVENT_NAME);
          assert.ok(!seen.has(`${group}:${event}`));
          seen.add(`${group}:${event}`);
        }
      }
    }),
    { numRuns: 300 },
  );
});
