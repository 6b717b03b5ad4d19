/** One program under both engines at the same time: what the tests with the kernel as the oracle share. */

import assert from 'node:assert/strict';

import {
  attach,
  type EventValue,
  type EventView,
  type ProbeRequest,
  type Summary,
} from '../../src/index.ts';
import { JsonExporter } from '../../src/exporters/json.ts';
import { LineBuffer } from '../../src/exporters/line-buffer.ts';
import { TextExporter } from '../../src/exporters/text.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, Reading } from './jump-support.ts';
import { OwnFixture, type Engine } from './kernel-support.ts';

/** The function that each engine probes: they are the same, and called with the same values. */
export const FUNCTION_OF: Readonly<Record<Engine, string>> = {
  kernel: 'take_first',
  jump: 'take_second',
};

/** A pointer of the fixture. */
export interface Case {
  readonly name: string;
  readonly pointer: bigint;
  /** Bytes that can be read before it, 512 at most. */
  readonly before: number;
  /** Bytes that can be read from it on, 512 at most. */
  readonly after: number;
}

/** One hit as an engine has it. */
export interface Seen {
  readonly address: bigint;
  readonly comm: string;
  readonly pid: number;
  readonly tid: number;
  readonly args: Readonly<Record<string, EventValue>>;
  /** What the exporters make of the arguments. */
  readonly text: string;
  readonly json: string;
}

/** What one engine saw: events by name, in order, and its counts. */
export interface Sight {
  readonly events: ReadonlyMap<string, readonly Seen[]>;
  readonly summary: Summary;
}

/** A definition without its place. */
export interface OracleProbe {
  /** Of its event; unique. */
  readonly name: string;
  /** Arguments and filter. */
  readonly words: string;
  readonly action?: ProbeRequest['action'];
}

/** The fixture, running, with what it says of itself. */
export class OracleProgram implements AsyncDisposable {
  readonly target: Target;
  readonly cases: readonly Case[];
  readonly longs: readonly string[];
  readonly #places: ReadonlyMap<string, bigint>;
  readonly #fixture: OwnFixture;

  private constructor(fixture: OwnFixture, target: Target, said: readonly string[]) {
    this.#fixture = fixture;
    this.target = target;
    const words = said.map((line) => line.split(' '));
    const of = (kind: string): string[][] => words.filter(([first]) => first === kind);
    this.#places = new Map(of('place').map(([, name = '', at = '']) => [name, BigInt(at)]));
    this.cases = of('case').map(([, name = '', at = '', before, after]) => ({
      name,
      pointer: BigInt(at),
      before: Number(before),
      after: Number(after),
    }));
    this.longs = of('long').map(([, name = '']) => name);
  }

  static async start(): Promise<OracleProgram> {
    const fixture = new OwnFixture({ sources: ['oracle.c'] }, 'trapline-oracle-');
    const target = await startTarget(fixture.path);
    await target.waitForLine('ready', 60_000);
    return new OracleProgram(fixture, target, target.lines);
  }

  /** Where something of the program is. */
  place(name: string): bigint {
    return this.#places.get(name) ?? assert.fail(`no place ${name}`);
  }

  /** Makes one round. @param line what the fixture's header says */
  async round(line: string): Promise<void> {
    this.target.send(line);
    await this.target.waitForLine('round', 60_000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.target[Symbol.asyncDispose]();
    this.#fixture[Symbol.dispose]();
  }
}

/** What each engine saw of the same calls. */
export type Sights = Readonly<Record<Engine, Sight>>;

/** The hits of an event, in their order. */
export function eventsOf({ events }: Sight, name: string): readonly Seen[] {
  return events.get(`oracle:${name}`) ?? assert.fail(`no event ${name}`);
}

/** Both engines on the program at once, and what they saw of one round. */
export async function seeRound(
  program: OracleProgram,
  probes: readonly OracleProbe[],
  round: string,
): Promise<Sights> {
  await using kernel = await watch(program, 'kernel', probes);
  await using jump = await watch(program, 'jump', probes);
  await program.round(round);
  return { kernel: await kernel.end(), jump: await jump.end() };
}

async function watch(program: OracleProgram, engine: Engine, probes: readonly OracleProbe[]) {
  const session = await attach(
    { pids: [program.target.pid] },
    {
      engine,
      ringBytes: 8 << 20,
      ringBudget: 32 << 20,
      probes: probes.map(({ name, words, action }) => ({
        definition: definitionFor(program, engine, name, words),
        ...(action === undefined ? {} : { action }),
      })),
    },
  );
  const events = new Map<string, Seen[]>(probes.map(({ name }) => [`oracle:${name}`, []]));
  const text = new TextExporter();
  const json = new JsonExporter();
  const reading = new Reading(session, (view) => {
    const { address, args, comm, pid, tid, late, event } = view.toEvent();
    assert.equal(late, false);
    events.get(event)?.push({
      address,
      args,
      comm,
      pid,
      tid,
      text: behind(`(0x${address.toString(16)})`, textOf(text, view)),
      json: behind('"args":', textOf(json, view)),
    });
  });
  return {
    async end(): Promise<Sight> {
      const summary = await session.stop();
      await reading.done;
      assertExact(summary);
      assert.deepEqual(summary.loss, { abandoned: 0, corrupt: 0, overrun: 0 });
      return { events, summary };
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await session[Symbol.asyncDispose]();
    },
  };
}

/** One event as an exporter writes it. */
function textOf(exporter: TextExporter | JsonExporter, view: EventView): string {
  const lines = new LineBuffer();
  exporter.format(view, lines);
  return lines.written().toString('latin1');
}

function behind(mark: string, line: string): string {
  const at = line.indexOf(mark);
  assert.ok(at > 0, line);
  return line.slice(at + mark.length);
}

/** `{place}` in the words is the address of the engine's function. */
function definitionFor(
  program: OracleProgram,
  engine: Engine,
  name: string,
  words: string,
): string {
  const place = program.place(engine === 'kernel' ? 'first' : 'second');
  return `p:oracle/${name} ${FUNCTION_OF[engine]}@oracle ${words.replaceAll('{place}', `${place}`)}`;
}
