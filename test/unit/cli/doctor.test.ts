import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderDoctor } from '../../../src/cli/doctor.ts';
import { readFacts, type SystemFacts } from '../../../src/session/reports/doctor-facts.ts';
import { doctor, judge, type Finding } from '../../../src/session/reports/doctor.ts';
import { feature } from '../../harness/features.ts';

const CAP_SYS_PTRACE = 1n << 19n;

const fine: SystemFacts = {
  architecture: 'x64',
  kernel: '6.12.0',
  hwcap2: 2n,
  processorFlags: new Set(['constant_tsc', 'nonstop_tsc', 'rdpid']),
  clockSource: 'tsc',
  ptraceScope: 0,
  memfdNoexec: 0,
  uid: 1000,
  capabilities: 0n,
  seccomp: 0,
  userNamespace: 'user:[4026531837]',
  pidNamespace: 'pid:[4026531836]',
  container: [],
  selinuxEnforces: false,
  foreignCalls: undefined,
  tracefs: 'absent',
  kernelProbes: [],
  fuse: 'absent',
  perfParanoid: undefined,
  debugFolders: [],
  distribution: undefined,
};

function findingOf(topic: string, changes: Partial<SystemFacts>): Finding {
  const found = judge({ ...fine, ...changes }).findings.find((one) => one.topic === topic);
  assert.ok(found, topic);
  return found;
}

test('a fine machine works for its user', () => {
  const report = judge(fine);
  assert.equal(report.works, true);
  assert.deepEqual(
    report.findings.filter(({ state }) => state === 'missing'),
    [],
  );
  assert.equal(new Set(report.findings.map(({ topic }) => topic)).size, report.findings.length);
});

test('each fact is judged', () => {
  const all = { capabilities: CAP_SYS_PTRACE };
  const cases: readonly (readonly [string, Finding['state'], Partial<SystemFacts>])[] = [
    ['machine', 'missing', { architecture: 'arm64' }],
    ['fsgsbase', 'missing', { hwcap2: 0n }],
    ['fsgsbase', 'missing', { hwcap2: undefined }],
    ['fsgsbase', 'good', { hwcap2: 0xffn }],
    ['rdpid', 'good', { processorFlags: new Set() }],
    ['clock', 'limited', { processorFlags: new Set() }],
    ['clock', 'limited', { clockSource: 'hpet' }],
    ['clock', 'limited', { clockSource: undefined }],
    ['clock', 'good', { clockSource: 'kvm-clock' }],
    ['calls to libc', 'missing', { foreignCalls: 'no such file' }],
    ['user', 'limited', {}],
    ['user', 'good', all],
    ['user', 'limited', { uid: 0 }],
    ['ptrace scope', 'good', { ptraceScope: undefined }],
    ['ptrace scope', 'good', { ptraceScope: 0 }],
    ['ptrace scope', 'limited', { ptraceScope: 1 }],
    ['ptrace scope', 'missing', { ptraceScope: 2 }],
    ['ptrace scope', 'missing', { ptraceScope: 3 }],
    ['ptrace scope', 'good', { ptraceScope: 1, ...all }],
    ['ptrace scope', 'good', { ptraceScope: 2, ...all }],
    ['ptrace scope', 'missing', { ptraceScope: 3, ...all }],
    ['namespaces', 'good', { container: ['/.dockerenv'] }],
    ['namespaces', 'limited', { pidNamespace: 'pid:[4026532000]' }],
    ['namespaces', 'limited', { userNamespace: undefined }],
    ['restrictions', 'limited', { seccomp: 2 }],
    ['restrictions', 'limited', { selinuxEnforces: true }],
    ['memory files', 'missing', { memfdNoexec: 2 }],
    ['memory files', 'good', { memfdNoexec: 1 }],
    ['kernel uprobes', 'note', { tracefs: 'closed' }],
    ['kernel uprobes', 'good', { tracefs: 'readable', kernelProbes: [''] }],
    ['kernel uprobes', 'limited', { tracefs: 'readable', kernelProbes: ['p:a/b /bin/zsh:0x10'] }],
    ['kernel engine', 'good', { tracefs: 'writable' }],
    ['kernel engine', 'note', { tracefs: 'writable', pidNamespace: 'pid:[4026532000]' }],
    ['kernel engine', 'note', { tracefs: 'readable' }],
    ['kernel engine', 'note', { tracefs: 'closed' }],
    ['kernel engine', 'note', { tracefs: 'absent' }],
    ['FUSE', 'note', { fuse: 'usable' }],
    ['perf events', 'note', { perfParanoid: 4 }],
  ];
  for (const [topic, state, changes] of cases) {
    const found = findingOf(topic, changes);
    assert.equal(found.state, state, `${topic}: ${found.found}`);
    const { works } = judge({ ...fine, ...changes });
    assert.equal(works, state !== 'missing', topic);
  }
});

test('what is missing or limited says what to do', () => {
  const bad: SystemFacts = {
    ...fine,
    architecture: 'arm64',
    hwcap2: undefined,
    foreignCalls: 'x',
    ptraceScope: 2,
    seccomp: 2,
    pidNamespace: undefined,
    clockSource: 'hpet',
    memfdNoexec: 2,
  };
  for (const finding of judge(bad).findings) {
    if (finding.state === 'good' || finding.state === 'note') continue;
    assert.ok((finding.advice ?? []).length > 0, finding.topic);
  }
});

test('the report on paper', () => {
  const report = {
    works: false,
    findings: [
      { topic: 'clock', state: 'good', found: 'tsc' },
      { topic: 'fsgsbase', state: 'missing', found: 'no', advice: ['one', 'two'] },
    ],
    warnings: ['mind the gap'],
  } as const;
  assert.deepEqual(renderDoctor(report), [
    'ok      clock     tsc',
    'MISSING fsgsbase  no',
    '                  one',
    '                  two',
    '',
    'Trapline can not work here: see what is marked MISSING.',
    '',
    'mind: mind the gap',
  ]);
});

test('this machine is seen as it is', async () => {
  const facts = await readFacts();
  assert.equal(((facts.hwcap2 ?? 0n) & 2n) !== 0n, feature('fsgsbase').present);
  assert.equal(facts.processorFlags.has('rdpid'), feature('rdpid').present);
  assert.equal(facts.tracefs === 'writable', feature('tracefs').present);
  assert.equal(facts.uid, process.geteuid?.());
  assert.equal(facts.foreignCalls, undefined);
  assert.match(facts.userNamespace ?? '', /^user:\[\d+\]$/);
  assert.equal((await doctor()).findings.length, judge(facts).findings.length);
});
