import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { fileOffset } from '../../../src/base/brand.ts';
import { accountFor } from '../../../src/engines/kernel/account.ts';
import {
  isScratch,
  planEvent,
  printCommand,
  printEventFilter,
  refusePlan,
  SCRATCH_SITE,
  type EventPlan,
} from '../../../src/engines/kernel/command.ts';
import { refuseInstruction, standInFor } from '../../../src/engines/kernel/instruction.ts';
import { parseFormat } from '../../../src/engines/kernel/format.ts';
import { refusedCommand } from '../../../src/engines/kernel/refusal.ts';
import { isOwnerAlive, ownName, parseName } from '../../../src/engines/kernel/session-name.ts';
import { findError } from '../../../src/engines/kernel/tracefs.ts';
import { isExact } from '../../../src/events/account.ts';
import { parseDefinition } from '../../../src/probe/definition.ts';
import type { Program } from '../../../src/probe/program.ts';

function programOf(text: string, action: Program['action'] = 'record'): Program {
  const { arguments: given } = parseDefinition(`f@x ${text}`);
  return { arguments: given, filter: undefined, action };
}

function place(
  path: string,
  offset: number,
  reference?: number,
): Parameters<typeof printCommand>[1] {
  return {
    path,
    offset: fileOffset(offset),
    reference: reference === undefined ? undefined : fileOffset(reference),
  };
}

test('a place is one line of uprobe_events', () => {
  const names = { group: 'g', event: 'e' };
  const program = programOf('size=$arg1:u64 path=+8(%si):string who=$comm $stack2');
  assert.equal(
    printCommand(names, place('/bin/zsh', 0x4245c0), planEvent(program), 7),
    'p:g/e /bin/zsh:0x4245c0 trapline_site=\\7:u32 trapline_comm=$comm ' +
      'size=%di:u64 path=+8(%si):string who=$comm arg4=$stack2',
  );
  const count = programOf('', 'count');
  assert.equal(
    printCommand(names, place('/x', 1), planEvent(count), 0),
    'p:g/e /x:0x1 trapline_site=\\0:u32',
  );
  assert.equal(
    printCommand(names, place('/x', 1, 0x20), planEvent(count), 0),
    'p:g/e /x:0x1(0x20) trapline_site=\\0:u32',
  );
});

test('our own arguments have names that nobody took', () => {
  const program = programOf('trapline_site=%di trapline_site_=%si');
  const { site, comm } = planEvent(program);
  assert.equal(site, 'trapline_site__');
  assert.equal(comm, 'trapline_comm');
});

test('what the kernel would make nonsense of is guarded, or not asked of it', () => {
  const plan = planEvent(
    programOf('a=+0(+8(+16(%di))):u8 b=+4(+8(+16(%di))):string t=\\"text" c=+0(%di)'),
  );
  assert.deepEqual(
    plan.fetched.map(({ name }) => name),
    ['a', 'b', 'c', 'trapline_base1', 'trapline_via2', 'trapline_via3'],
  );
  const guards = [...plan.guards].map(([name, list]) => [
    name,
    list.map(({ pointer, base, offset }) => [pointer.name, base?.name, offset]),
  ]);
  const both = [
    ['trapline_via2', 'trapline_base1', 16n],
    ['trapline_via3', 'trapline_via2', 8n],
  ];
  assert.deepEqual(guards, [
    ['a', both],
    ['b', both],
    ['t', []],
    ['c', []],
  ]);
  const command = printCommand({ group: 'g', event: 'e' }, place('/x', 1), plan, 0);
  assert.match(
    command,
    / trapline_base1=%di trapline_via2=\+16\(%di\) trapline_via3=\+8\(\+16\(%di\)\)$/,
  );
  assert.doesNotMatch(command, /text/);
});

function planOf(filter: Program['filter']): EventPlan {
  return planEvent({ arguments: [], filter, action: 'count' });
}

test('filters are in the kernel’s words, what they look at is fetched', () => {
  const { filter = assert.fail('no filter') } = parseDefinition('f@x a=%di:s32 if a < 3 || a == 7');
  const both: Program['filter'] = { kind: 'both', filters: [filter, filter] };
  assert.equal(printEventFilter(planOf(undefined)), undefined);
  assert.equal(printEventFilter(planOf(filter)), 'a < 3 || a == 7');
  assert.equal(printEventFilter(planOf(both)), '(a < 3 || a == 7) && (a < 3 || a == 7)');
  const { fetched } = planOf(filter);
  assert.deepEqual(
    fetched.map(({ name }) => name),
    ['a'],
  );
});

test('more arguments than the kernel has room for are refused', () => {
  const most = Array.from({ length: 126 }, () => '%di').join(' ');
  assert.equal(refusePlan(planEvent(programOf(most))), undefined);
  const reason = refusePlan(planEvent(programOf(`${most} %di`))) ?? '';
  assert.match(
    reason,
    /room for 128 .*, and Trapline needs 2 of them for itself .*: these are 127$/,
  );
  const counting = planEvent(programOf(`${most} %di`, 'count'));
  assert.equal(refusePlan(counting), undefined);
  const deep = planEvent(programOf(`${most} +0(+0(%di))`.replace('%di ', '')));
  assert.match(refusePlan(deep) ?? '', /these are 126, and 2 are pointers on the way to them$/);
});

test('what the kernel says of a command is told of the words that somebody wrote', () => {
  const text = 'p:x/y /bin/zsh:0x10 +0(%si):u64[64] who=$arg1 +0(+0(%di))';
  const { arguments: given } = parseDefinition(text);
  const plan = planEvent({ arguments: given, filter: undefined, action: 'record' });
  const names = { group: 'g', event: 'e' };
  const command = printCommand(names, place('/proc/self/fd/7', 0x10), plan, 7);
  const told = (word: string, message = 'No'): string =>
    refusedCommand({ message, column: command.indexOf(word) }, command, plan, text);
  const under = (word: string): string =>
    `the kernel says: No\n  ${text}\n  ${' '.repeat(text.indexOf(word))}^`;
  assert.equal(told('/proc'), under('/bin'));
  assert.equal(told('0x10'), under('0x10'));
  assert.equal(told('0(%si)'), under('+0(%si)'));
  assert.equal(told('%di '), under('who='));
  assert.equal(told('arg3='), under('+0(+0'));
  for (const word of ['p:g', 'trapline_site', 'trapline_comm', 'trapline_via1']) {
    assert.equal(told(word), 'the kernel says: No', word);
  }
  assert.match(
    told('arg3=', 'Event too big (too many fields?)'),
    /\^\n {2}24 bytes of the event's room are Trapline's own: for which place it was, the task's name, the pointers/,
  );
});

function refuse(text: string): string | undefined {
  return refusePlan(planEvent(programOf(text)));
}

test('a term holds only where the pointers on the way to its value were read', () => {
  const { arguments: given, filter } = parseDefinition(
    'f@x a=+0(+8(%di)):u8 b=%si if b == 1 || !(a > 3)',
  );
  assert.equal(
    printEventFilter(planEvent({ arguments: given, filter, action: 'record' })),
    'b == 1 || !(trapline_via2 != 0 && a > 3)',
  );
});

test('offsets that the kernel would cut are refused', () => {
  assert.equal(refuse('+0x7fffffff(%di) -0x80000000(%di) @0xffffffff81000000'), undefined);
  for (const text of ['a=+0x80000000(%di)', 'a=-0x80000001(%di):u8', 'a=+0(+0x100000000(%di))']) {
    assert.match(refuse(text) ?? '', /32 bits .* a /, text);
  }
});

const FORMAT = `name: e
ID: 2326
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:unsigned long __probe_ip;\toffset:8;\tsize:8;\tsigned:0;
\tfield:u64 size;\toffset:16;\tsize:8;\tsigned:0;
\tfield:__data_loc char[] path;\toffset:24;\tsize:4;\tsigned:1;
\tfield:u32 trapline_site;\toffset:28;\tsize:4;\tsigned:0;
\tfield:__data_loc char[] trapline_comm;\toffset:32;\tsize:4;\tsigned:1;

print fmt: "(%lx) size=%Lu", REC->__probe_ip, REC->size
`;

test('a format says where things are', () => {
  const program = programOf('size=%di:u64 path=+0(%si):string');
  assert.deepEqual(parseFormat(FORMAT, planEvent(program)), {
    type: 2326,
    ip: 8,
    site: 28,
    comm: 32,
    fields: [
      { kind: 'integer', offset: 16, bytes: 8, guards: [] },
      { kind: 'string', offset: 24, bytes: 4, guards: [] },
    ],
  });
  for (const text of ['size=%di:u64 other=%si', 'size=+0(%di):string']) {
    const other = programOf(text);
    assert.throws(() => parseFormat(FORMAT, planEvent(other)), { code: 'unsupported' });
  }
});

test('the kernel’s last word on a command, with its column', () => {
  const log = `[  1.0] trace_uprobe: error: Unknown type is specified
  Command: p:g/e /bin/true:0x10 a=%di:u9
                                      ^
[  2.0] trace_uprobe: error: Invalid register name
  Command: p:g/f /bin/true:0x10 a=%zz
                                  ^
`;
  assert.deepEqual(findError(log, 'p:g/e /bin/true:0x10 a=%di:u9'), {
    message: 'Unknown type is specified',
    column: 27,
  });
  assert.equal(findError(log, 'p:g/g /bin/true:0x10'), undefined);
});

test('a name says whose it is', () => {
  const own = parseName(ownName(3));
  assert.ok(own !== undefined);
  assert.equal(own.pid, process.pid);
  assert.equal(own.thread, 3);
  assert.equal(parseName(`${own.session}_prices`)?.session, ownName(3));
  assert.ok(isOwnerAlive(own));
  // The same number at another time is somebody else.
  assert.ok(!isOwnerAlive({ ...own, started: String(Number(own.started) + 1) }));
  for (const other of ['trapline', 'trapline_1_2', 'trapline_bench', 'x_trapline_1_2_3']) {
    assert.equal(parseName(other), undefined);
  }
});

test('sums are exact, whatever was lost and filtered', () => {
  const count = fc.record({
    hits: fc.nat(1e6),
    ending: fc.nat(1000),
    seen: fc.nat(1e6),
    isCounted: fc.boolean(),
    texts: fc.option(fc.record({ passed: fc.nat(1e6), shown: fc.nat(1e6) }), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(count, { maxLength: 20 }), fc.nat(1e6), (counts, lost) => {
      const accounts = accountFor(counts, lost, true);
      for (const account of accounts) assert.ok(isExact(account), JSON.stringify(account));
      const room = counts.reduce((sum, { hits, seen }) => sum + Math.max(0, hits - seen), 0);
      const given = accounts.reduce((sum, { missed }) => sum + missed.ringFull, 0);
      assert.equal(given, Math.min(lost, room));
      assert.ok(accounts.every(({ missed, filtered }) => missed.ringFull >= 0 && filtered >= 0));
    }),
  );
});

test('what nothing filters is told apart exactly, event by event', () => {
  const one = { hits: 1000, ending: 0, seen: 400, isCounted: false, texts: undefined };
  const other = { hits: 50, ending: 0, seen: 50, isCounted: false, texts: undefined };
  const [first, second] = accountFor([one, other], 600, true);
  assert.equal(first?.missed.ringFull, 600);
  assert.equal(second?.missed.ringFull, 0);
});

test('texts that are too long are told from what was filtered, and from what was lost', () => {
  const texts = { passed: 700, shown: 400 };
  const one = { hits: 1000, ending: 0, seen: 400, isCounted: false, texts };
  const [first] = accountFor([one], 0, true);
  assert.equal(first?.missed.textsTooLong, 300);
  assert.equal(first?.filtered, 300);
  const [second] = accountFor([one], 50, true);
  assert.equal(second?.missed.ringFull, 50);
  assert.equal(second?.missed.textsTooLong, 250);
  assert.equal(second?.filtered, 300);
});

test('instructions that the kernel refuses, or takes for others', () => {
  const cases: readonly (readonly [string, RegExp | undefined])[] = [
    ['f30f1efa', undefined], // endbr64
    ['55', undefined], // push rbp
    ['488b07', undefined], // mov rax, [rdi]
    ['64488b042500000000', undefined], // mov rax, fs:[0]
    ['c5f877', /AVX/], // vzeroupper
    ['62f17c48', /AVX/], // EVEX
    ['66c5f877', /AVX/],
    ['f00fba', /lock/], // lock bts
    ['3effe0', /segment/], // notrack jmp rax
    ['', undefined],
  ];
  for (const [bytes, expected] of cases) {
    const reason = refuseInstruction(Buffer.from(bytes, 'hex'));
    if (expected === undefined) assert.equal(reason, undefined, bytes);
    else assert.match(reason ?? '', expected, bytes);
  }
});

test('an instruction is of the kind that the kernel treats it as', () => {
  const kinds: readonly (readonly [string, string])[] = [
    ['90', 'nop'],
    ['f390', 'nop'], // pause
    ['eb05', 'nop'],
    ['e900000000', 'nop'],
    ['e800000000', 'nop'],
    ['7405', 'nop'],
    ['0f8400000000', 'nop'],
    ['0f1f00', 'long-nop'],
    ['660f1f440000', 'long-nop'],
    ['0f1f440000', 'patched-nop'],
    ['55', 'push'],
    ['4154', 'push'],
    ['4954', 'stepped'], // REX.WB: two bytes, and not what the kernel knows
    ['6655', 'stepped'],
    ['f30f1efa', 'stepped'], // endbr64
    ['4889e5', 'stepped'],
    ['ff25aabbccdd', 'stepped'],
    ['', 'stepped'],
  ];
  for (const [code, kind] of kinds) {
    assert.equal(standInFor(Buffer.from(code, 'hex')), kind, code);
  }
});

test('places at which hits are measured are none of the session’s', () => {
  const plan = planEvent(programOf('trapline_site=%di'));
  const names = { group: 'g', event: 'e' };
  const lineOf = (site: number): string => printCommand(names, place('/x', 1), plan, site);
  assert.ok(isScratch(lineOf(SCRATCH_SITE)));
  assert.ok(!isScratch(lineOf(16_383)));
  assert.ok(!isScratch('p:g/e /x:0x1 a=%di'));
});
