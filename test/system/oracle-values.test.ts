import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FAULT } from '../../src/index.ts';
import { leavingKernelClean, skipEngine } from './kernel-support.ts';
import {
  allArguments,
  isWhole,
  NEIGHBOURS,
  pack,
  type OracleArgument,
} from './oracle-definitions.ts';
import { isFault, MEANT, show, type MeantDifference } from './oracle-meant.ts';
import {
  eventsOf,
  OracleProgram,
  seeRound,
  type OracleProbe,
  type Seen,
  type Sights,
} from './oracle-support.ts';

/** An argument that an event has, by its name there. */
type Named = ReadonlyMap<string, OracleArgument>;

test('every fetch and type has the kernel’s value, or differs for a reason', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  await using program = await OracleProgram.start();
  const place = (name: string): bigint => program.place(name);
  const all = allArguments(place, (address) => Number(address - place('base')));
  assert.ok(all.length > 1000);
  const events = [...pack(all), ...NEIGHBOURS].map(
    (list): Named => new Map(list.map((one, at) => [`a${at}`, one] as const)),
  );
  const probes = events.map((named, at): OracleProbe => {
    const words = [...named].map(([name, { body }]) => `${name}=${body}`);
    return { name: `d${at}`, words: ['n=%dx:u32', ...words].join(' ') };
  });
  await leavingKernelClean(program.target, 'kernel', async () => {
    const seen = await seeRound(program, probes, 'go');
    const comparison = new Comparison(program, seen);
    events.forEach((named, at) => comparison.compare(`d${at}`, named));
    const { wrong } = comparison;
    assert.deepEqual(wrong.slice(0, 20), [], `${wrong.length} values differ without a reason`);
    for (const { reason } of MEANT) assert.ok(comparison.met.has(reason), `not met: ${reason}`);
    assert.ok(comparison.same > 20_000, `${comparison.same} values are the same`);
  });
});

/** Goes through what both engines saw. */
class Comparison {
  readonly wrong: string[] = [];
  readonly met = new Set<string>();
  same = 0;
  readonly #program: OracleProgram;
  readonly #seen: Sights;

  constructor(program: OracleProgram, seen: Sights) {
    this.#program = program;
    this.#seen = seen;
  }

  compare(event: string, named: Named): void {
    const kernel = eventsOf(this.#seen.kernel, event);
    const jump = eventsOf(this.#seen.jump, event);
    const { cases } = this.#program;
    assert.equal(kernel.length, cases.length, event);
    assert.equal(jump.length, cases.length, event);
    kernel.forEach((hit, at) => {
      const other = jump[at];
      assert.ok(other !== undefined);
      assert.equal(hit.args['n'], at);
      assert.equal(other.args['n'], at);
      this.#compareHit(named, hit, other, jump);
    });
  }

  #compareHit(named: Named, kernel: Seen, jump: Seen, others: readonly Seen[]): void {
    assert.deepEqual([kernel.comm, kernel.pid, kernel.tid], [jump.comm, jump.pid, jump.tid]);
    assert.equal(kernel.address, this.#program.place('first'));
    assert.equal(jump.address, this.#program.place('second'));
    let differs = false;
    for (const [name, argument] of named) {
      differs = !this.#compareValue(argument, name, kernel, jump, others) || differs;
    }
    if (differs) return;
    if (kernel.text !== jump.text) this.wrong.push(`${kernel.text} is not ${jump.text}`);
    if (kernel.json !== jump.json) this.wrong.push(`${kernel.json} is not ${jump.json}`);
  }

  /** @returns whether both are the same. */
  #compareValue(
    argument: OracleArgument,
    name: string,
    kernel: Seen,
    jump: Seen,
    others: readonly Seen[],
  ): boolean {
    const { cases } = this.#program;
    const one = cases[Number(jump.args['n'])];
    const [theirs, ours] = [kernel.args[name], jump.args[name]];
    assert.ok(one !== undefined && theirs !== undefined && ours !== undefined);
    const said = (): string =>
      `${one.name} ${argument.body}: kernel ${show(theirs)}, jump ${show(ours)}`;
    const whole = isWhole(argument, one);
    if (whole !== undefined && whole === isFault(ours)) {
      this.wrong.push(`${said()}: it can ${whole ? '' : 'not '}be read`);
    }
    if (show(theirs) === show(ours)) {
      this.same++;
      return true;
    }
    const elsewhere = (case_: string): Seen['args'][string] =>
      others[cases.findIndex((two) => two.name === case_)]?.args[name] ?? FAULT;
    const difference = { argument, one, theirs, ours, elsewhere };
    const meant = MEANT.find((rule: MeantDifference) => rule.applies(difference));
    if (meant === undefined) this.wrong.push(said());
    else this.met.add(meant.reason);
    return false;
  }
}

test('long texts: up to the kernel’s page they are the same, ours go on to 4096 bytes', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  await using program = await OracleProgram.start();
  const bodies = ['+0(%si):string', '+0(+0(%di)):string', '+1(%si):string'];
  const probes = bodies.map((body, at) => ({ name: `l${at}`, words: `n=%dx:u32 t=${body} b=%r8` }));
  await leavingKernelClean(program.target, 'kernel', async () => {
    const seen = await seeRound(program, probes, 'long');
    for (const [at, body] of bodies.entries()) {
      const skipped = body.startsWith('+1') ? 1 : 0;
      const kernel = eventsOf(seen.kernel, `l${at}`);
      const jump = eventsOf(seen.jump, `l${at}`);
      assert.equal(jump.length, program.longs.length);
      for (const [number, name] of program.longs.entries()) {
        const text = lettersOf(Number(name)).slice(skipped);
        const theirs = kernel.find(({ args }) => args['n'] === number);
        const ours = jump[number];
        assert.equal(ours?.args['n'], number);
        assert.equal(ours.args['t'], text.slice(0, 4096), name);
        assert.equal(ours.text.includes('"...'), text.length >= 4096, name);
        assert.ok(!ours.json.includes('...'));
        assert.equal(theirs?.text.includes('"...') ?? false, false);
        if (text.length <= 3900) assert.equal(theirs?.args['t'], text, name);
        else if (text.length >= 4096) assert.equal(theirs?.args['t'], FAULT, name);
        // The kernel has a page for an event: where a text has less room than it needs, it drops the event.
        else assert.equal(theirs, undefined, name);
        for (const hit of [theirs, ours]) {
          if (hit !== undefined) assert.deepEqual(hit.args['b'], 0x1122334455667788n, name);
        }
      }
    }
  });
});

test('a text that changes while it is read is one of its moments, for both', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  await using program = await OracleProgram.start();
  const calls = 2000;
  const probes = [{ name: 'c', words: 'n=%dx:u32 t=+0(%si):string u=+0(+0(%di)):string' }];
  await leavingKernelClean(program.target, 'kernel', async () => {
    const seen = await seeRound(program, probes, `change ${calls}`);
    for (const sight of [seen.kernel, seen.jump]) {
      const hits = eventsOf(sight, 'c');
      assert.equal(hits.length, calls);
      hits.forEach(({ args }, at) => {
        assert.equal(args['n'], at);
        for (const name of ['t', 'u']) {
          const text = args[name];
          // As with a text without end: the kernel has measured both before it reads the first.
          if (sight === seen.kernel && name === 'u' && text === FAULT) continue;
          assert.ok(typeof text === 'string' && /^[a-z]{0,200}$/.test(text), show(text ?? FAULT));
        }
      });
      assert.ok(new Set(hits.map(({ args }) => args['t'])).size > 1);
    }
  });
});

function lettersOf(length: number): string {
  return Array.from({ length }, (_, at) => String.fromCharCode(0x61 + (at % 26))).join('');
}
