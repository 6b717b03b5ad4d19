import assert from 'node:assert/strict';
import { test } from 'node:test';
import { address, fileOffset } from '../../../src/base/brand.ts';
import { counted, renderStops, renderSummary } from '../../../src/cli/summary.ts';
import {
  byReason,
  renderAttached,
  renderSites,
  renderUseless,
} from '../../../src/cli/trace-report.ts';
import { exitStatus } from '../../../src/cli/follow.ts';
import type { AddedProbe, EventSummary, Summary } from '../../../src/index.ts';

const none = { ringFull: 0, noContext: 0, tracerGone: 0, abandoned: 0, textsTooLong: 0 };

function event(name: string, hits: number, more: Partial<EventSummary> = {}): EventSummary {
  return {
    event: name,
    definition: name,
    hits,
    recorded: hits,
    aggregated: 0,
    filtered: 0,
    missed: none,
    costNanoseconds: 8.24,
    ...more,
  };
}

const bill: Summary['bill'] = {
  stubNanoseconds: 10_000,
  targetNanoseconds: 45_000_000,
  stoppedNanoseconds: 1_200_000,
  stops: 2,
  longestStopNanoseconds: 800_000,
};
const whole: Summary = {
  events: [event('probe_libc:malloc', 1234)],
  bill,
  loss: { abandoned: 0, corrupt: 0, overrun: 0 },
  kept: [],
};

test('a quiet summary has no empty columns', () => {
  assert.deepEqual(renderSummary(whole), [
    'event               hits  recorded    each',
    'probe_libc:malloc  1,234     1,234  8.2 ns',
    'bill: 1,234 hits × 8.2 ns = 10 µs, 0.02 % of the 45 ms that the target computed',
    '      stopped for 1.2 ms in 2 stops, the longest 800 µs',
  ]);
});

test('what was filtered and missed is shown with its reasons', () => {
  const missed = { ringFull: 3000, noContext: 4, tracerGone: 0, abandoned: 1, textsTooLong: 0 };
  const summary = {
    ...whole,
    events: [
      event('a:f', 4005, { recorded: 1000, missed }),
      event('a:g', 1, { recorded: 0, filtered: 1, costNanoseconds: 0 }),
    ],
    loss: { abandoned: 1, corrupt: 2, overrun: 0 },
    kept: ['a page of stubs in 12: a task \u001b stands in it'],
  };
  assert.deepEqual(renderSummary(summary), [
    'event   hits  recorded  filtered  missed  why                                        each',
    'a:f    4,005     1,000         0   3,005  ring full 3,000, no ring 4, abandoned 1  8.2 ns',
    'a:g        1         0         1       0                                                –',
    '1 record left unfinished by a task that ended or jumped away',
    '2 records damaged: the target wrote over its rings',
    'bill: 4,006 hits = 10 µs, 0.02 % of the 45 ms that the target computed',
    '      stopped for 1.2 ms in 2 stops, the longest 800 µs',
    'kept: a page of stubs in 12: a task \\x1b stands in it',
  ]);
});

test('counting shows counts alone', () => {
  const counting = event('a:f', 7, { recorded: 0, aggregated: 7 });
  assert.deepEqual(renderSummary({ ...whole, events: [counting] }).slice(0, 2), [
    'event  hits  counted    each',
    'a:f       7        7  8.2 ns',
  ]);
});

test('a target that used no time has no share', () => {
  const idle = { ...bill, targetNanoseconds: 0, stubNanoseconds: 0, stops: 0 };
  const lines = renderSummary({ ...whole, events: [event('a:f', 0)], bill: idle });
  assert.equal(lines.at(-1), 'bill: 0 hits × 8.2 ns = 0 ns');
});

test('no share is over 100 % without a reason', () => {
  const dear = { ...bill, targetNanoseconds: 9_000, stops: 0 };
  assert.deepEqual(renderSummary({ ...whole, bill: dear }).slice(-2), [
    'bill: 1,234 hits × 8.2 ns = 10 µs, over 100 % of the 9 µs that the target computed',
    '      more, since what a hit costs is measured elsewhere, or hits of other processes are there',
  ]);
  const all = { ...dear, targetNanoseconds: dear.stubNanoseconds };
  assert.match(renderSummary({ ...whole, bill: all }).at(-1) ?? '', /, 100\.0 % of the 10 µs/);
});

test('stops and counts in words', () => {
  assert.equal(renderStops({ ...bill, stops: 1 }), 'stopped for 1.2 ms, once');
  assert.equal(counted(1, 'process'), '1 process');
  assert.equal(counted(2000, 'process'), '2,000 processes');
  assert.equal(counted(0, 'hit'), '0 hits');
});

const site = {
  pid: 12,
  event: 'probe_zsh:zfree',
  name: 'zfree',
  file: '/bin/zsh',
  offset: fileOffset(0x1000),
  address: address(0x55d000001000n),
  method: 'jump' as const, // the literal, not string
  displacedBytes: 7,
};
const one: AddedProbe = {
  id: 0,
  definition: 'zfree@zsh',
  listing: 'p:probe_zsh/zfree zfree@zsh',
  action: 'record',
  sites: [site],
  refused: [],
};
const target = { pid: 12, comm: 'zsh', executable: '/bin/zsh' };

test('a single function is one line', () => {
  assert.deepEqual(renderAttached({ targets: [target], probes: [one], stops: bill }), [
    'trapline: 1 probe in zsh (12), stopped for 1.2 ms in 2 stops, the longest 800 µs',
  ]);
});

test('a probe in a file that no target maps yet says so', () => {
  const probes = [{ ...one, sites: [{ ...site, pid: 0, method: 'uprobe' as const }] }]; // the literal
  const quiet = { ...bill, stops: 0 };
  assert.deepEqual(renderAttached({ targets: [target], probes, stops: quiet }), [
    'trapline: 1 probe in what zsh (12) has not mapped yet',
  ]);
  const targets = [target, { ...target, pid: 13 }];
  assert.deepEqual(renderAttached({ targets, probes, stops: quiet }), [
    'trapline: 1 probe in what the 2 processes have not mapped yet',
  ]);
});

test('a file without probes, and one whose probes wait, are told apart', () => {
  const targets = [target];
  const attached = { targets, stops: bill, file: 'heap.probes' };
  assert.deepEqual(renderAttached({ ...attached, probes: [] }), [
    'trapline: heap.probes has no probes yet: it is watched, and those that come are put in',
  ]);
  assert.match(
    renderAttached({ ...attached, probes: [{ ...one, sites: [] }] }).join('\n'),
    /^trapline: zsh \(12\) has not loaded it yet/,
  );
});

test('who is not chosen has not got to load anything', () => {
  const quiet = { ...bill, stops: 0 };
  const facts = { ...target, uid: 5, ancestors: [1], cgroup: '/a' };
  const probes = [{ ...one, sites: [], unchosen: [facts] }];
  const attached = { targets: [target], probes, stops: quiet };
  assert.deepEqual(renderAttached({ ...attached, choosing: ['comm'] }), [
    'trapline: zsh (12) is not chosen by --comm, and has no probe: --comm zsh would choose it',
  ]);
  const other = { ...target, pid: 13 };
  assert.deepEqual(
    renderAttached({ ...attached, targets: [target, other], choosing: ['exe', 'uid'] }),
    [
      'trapline: zsh (13) has not loaded it yet: it is probed as soon as that happens',
      'trapline: zsh (12) is not chosen by --exe and --uid, and has no probe: --exe /bin/zsh --uid 5 would choose it',
    ],
  );
  const several = [12, 13, 14, 15, 16].map((pid) => ({ ...facts, pid }));
  const lines = renderAttached({
    targets: [...several, { ...target, pid: 17 }],
    probes: [{ ...one, sites: [{ ...site, pid: 17 }], unchosen: several }],
    stops: quiet,
    choosing: ['tree'],
  });
  assert.deepEqual(lines[0], 'trapline: 1 probe in zsh (17)');
  assert.match(lines[3] ?? '', /^trapline: zsh \(14\) is not chosen by --tree.*: --tree 14 would/);
  assert.deepEqual(lines[4], 'trapline: nor are 2 more of those named');
  // One that has a probe of others is chosen.
  const some = renderAttached({ ...attached, probes: [one, ...probes], choosing: ['comm'] });
  assert.deepEqual(some[0], 'trapline: 1 probe in zsh (12)');
  assert.doesNotMatch(some.join('\n'), /not chosen/);
});

test('what --exclude leaves out is told, and that it leaves nothing out', () => {
  const glob = { ...one, definition: 'z*@zsh' };
  const quiet = { ...bill, stops: 0 };
  const probes = [{ ...glob, excluded: 2 }];
  assert.equal(
    renderAttached({ targets: [target], probes, stops: quiet })[1],
    'trapline: z*@zsh: 1 function probed, 2 excluded',
  );
  assert.deepEqual(renderUseless(['zzz'], probes), []);
  assert.deepEqual(renderUseless([], [one]), []);
  assert.deepEqual(renderUseless(['zzz', 'y*'], [one]), [
    'trapline: --exclude zzz --exclude y* leaves nothing out: no glob of a probe takes such a function',
  ]);
  // Its file may have such functions.
  assert.deepEqual(renderUseless(['zzz'], [one, { ...glob, sites: [] }]), []);
});

function refuse(name: string, reason: string): AddedProbe['refused'][number] {
  return { pid: 12, name, file: '/bin/zsh', reason };
}

test('a glob says what it took and what it left, by reason', () => {
  const glob = {
    ...one,
    definition: 'z*@zsh',
    sites: [site, { ...site, pid: 13 }, { ...site, name: 'zalloc', offset: fileOffset(0x2000) }],
    refused: [
      refuse('zjump', 'too short'),
      ...['a', 'b', 'c', 'd', 'e'].map((name) => refuse(name, 'a branch lands inside')),
      refuse('a', 'a branch lands inside'),
    ],
  };
  const quiet = { ...bill, stops: 0 };
  const targets = [target, { ...target, pid: 13 }];
  assert.deepEqual(renderAttached({ targets, probes: [glob], stops: quiet }), [
    'trapline: 2 probes in 2 processes',
    'trapline: z*@zsh: 2 functions probed, 6 refused',
    '  5 × a branch lands inside: a, b, c and 2 more',
    '  1 × too short: zjump',
  ]);
  assert.deepEqual(
    byReason(glob.refused).map(([reason, names]) => [reason, names.length]),
    [
      ['a branch lands inside', 5],
      ['too short', 1],
    ],
  );
});

test('every site and every refusal, for -v', () => {
  const refused = [{ pid: 12, name: 'zjump', file: '/bin/zsh', reason: 'too short' }];
  assert.deepEqual(renderSites([{ ...one, refused }]), [
    '  pid  event            place  address         method             file',
    '  12   probe_zsh:zfree  zfree  0x55d000001000  jump over 7 bytes  /bin/zsh:0x1000',
    '  pid  refused  why',
    '  12   zjump    too short',
  ]);
});

test('exit statuses are a shell’s', () => {
  assert.equal(exitStatus({ code: 0, signal: undefined }), 0);
  assert.equal(exitStatus({ code: 3, signal: undefined }), 3);
  assert.equal(exitStatus({ code: undefined, signal: 'SIGINT' }), 130);
  assert.equal(exitStatus({ code: undefined, signal: 'SIGKILL' }), 137);
  assert.equal(exitStatus(undefined), 1);
});
