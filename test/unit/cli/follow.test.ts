import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { Ending } from '../../../src/cli/ending.ts';
import { follow, type FollowedSession } from '../../../src/cli/follow.ts';
import type { TraceOptions } from '../../../src/cli/trace-options.ts';
import type { EventBatch, Summary, TargetEnd } from '../../../src/index.ts';
import { PLAIN } from '../../../src/screen/colour.ts';

const summary: Summary = {
  events: [],
  bill: {
    stubNanoseconds: 0,
    targetNanoseconds: 0,
    stoppedNanoseconds: 0,
    stops: 0,
    longestStopNanoseconds: 0,
  },
  loss: { abandoned: 0, corrupt: 0, overrun: 0 },
  kept: [],
};

/** A session that does nothing but end: by itself when told, its iteration when it is stopped. */
class FakeSession implements FollowedSession {
  readonly targets = [{ pid: 12, comm: 'ls', executable: '/bin/ls' }];
  readonly command = 12;
  readonly isFollowing = false;
  readonly probes = [];
  readonly ended: Promise<readonly TargetEnd[]>;
  stops = 0;
  stopFailure: Error | undefined;
  /** Thrown by the iteration. */
  failure: Error | undefined;
  end: (status: TargetEnd['status']) => void = () => {};
  fail: (error: Error) => void = () => {};
  #release: () => void = () => {};
  readonly #stopped: Promise<void>;

  constructor() {
    this.ended = new Promise((resolve, reject) => {
      this.end = (status): void => resolve([{ pid: 12, ...(status && { status }) }]);
      this.fail = reject;
    });
    this.#stopped = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  symbolize(): Promise<readonly undefined[]> {
    return Promise.resolve([]);
  }

  get firstStops(): Summary['bill'] {
    return summary.bill;
  }

  async *batches(): AsyncGenerator<EventBatch, void> {
    if (this.failure !== undefined) throw this.failure;
    await this.#stopped;
    yield* [];
  }

  stop(): Promise<Summary> {
    this.stops++;
    this.#release();
    return this.stopFailure === undefined
      ? Promise.resolve(summary)
      : Promise.reject(this.stopFailure);
  }
}

/** A trace of a fake session, which `act` sets going. */
async function run(
  options: Partial<TraceOptions>,
  act: (session: FakeSession, signals: EventEmitter) => void,
  command?: readonly string[],
): Promise<{ result: number | Error; stops: number; text: string; killed: string[] }> {
  const session = new FakeSession();
  const signals = new EventEmitter();
  using ending = new Ending(signals);
  const killed: string[] = [];
  let text = '';
  const request = {
    probes: ['f@x'],
    options: { format: 'text', engine: 'auto', ...options } as const,
    ...(command && { command }),
  };
  act(session, signals);
  const result = await follow(request, session, {
    output: { write: () => Promise.resolve() },
    ending,
    messages: {
      lines: (lines) => {
        text += `${lines.join('\n')}\n`;
      },
    },
    paint: PLAIN,
    tellRest: () => {
      text += 'the rest\n';
    },
    kill: (pid, signal) => killed.push(`${pid} ${signal}`),
  }).catch((error: unknown) => (error instanceof Error ? error : new Error(String(error))));
  return { result, stops: session.stops, text, killed };
}

test('each way to end stops the session once', async () => {
  const ways: readonly (readonly [
    string,
    Partial<TraceOptions>,
    (s: FakeSession, e: EventEmitter) => void,
  ])[] = [
    ['signal', {}, (_, signals): void => void setImmediate(() => signals.emit('SIGINT', 'SIGINT'))],
    ['duration', { duration: 1e6 }, (): void => {}],
    ['target', {}, (session): void => session.end(undefined)],
    [
      'signal, counting',
      { count: true },
      (_, signals): void => void signals.emit('SIGTERM', 'SIGTERM'),
    ],
    ['target, counting', { count: true }, (session): void => session.end(undefined)],
  ];
  for (const [name, options, act] of ways) {
    const { result, stops, text, killed } = await run(options, act);
    assert.deepEqual([result, stops], [0, 1], name);
    assert.match(text, /^the rest\n[^]*^bill: /m, name);
    assert.deepEqual(killed, [], name);
  }
});

test('-q says nothing but what could not be done', async () => {
  const { text, result } = await run({ quiet: true }, (session) => session.end(undefined));
  assert.equal(text, 'the rest\n');
  assert.equal(result, 0);
});

test('a command gives its status', async () => {
  const cases: readonly (readonly [TargetEnd['status'], number])[] = [
    [{ code: 7, signal: undefined }, 7],
    [{ code: undefined, signal: 'SIGINT' }, 130],
    [undefined, 1],
  ];
  for (const [status, expected] of cases) {
    const { result } = await run({}, (session) => session.end(status), ['ls']);
    assert.equal(result, expected);
  }
});

test('a signal to us alone is handed on; a later one is answered; the end is waited for', async () => {
  const { result, text, killed, stops } = await run(
    {},
    (session, signals) => {
      setImmediate(() => {
        signals.emit('SIGTERM', 'SIGTERM');
        signals.emit('SIGTERM', 'SIGTERM');
        setImmediate(() => session.end({ code: undefined, signal: 'SIGTERM' }));
      });
    },
    ['ls'],
  );
  assert.equal(result, 143);
  assert.equal(stops, 1);
  assert.deepEqual(killed, ['12 SIGTERM', '12 SIGTERM']);
  assert.match(text, /still taking the probes out, then waiting for ls to end/);
});

test('a signal that came while the command was being started ends it too', async () => {
  const { result, killed, stops } = await run(
    {},
    (session, signals) => {
      signals.emit('SIGTERM', 'SIGTERM');
      setImmediate(() => session.end({ code: undefined, signal: 'SIGTERM' }));
    },
    ['ls'],
  );
  assert.deepEqual([result, stops, killed], [143, 1, ['12 SIGTERM']]);
});

test('whatever fails, the session is stopped and the failure told', async () => {
  const broken = await run({}, (session) => {
    session.failure = new Error('the ring is damaged');
  });
  assert.match(String(broken.result), /the ring is damaged/);
  assert.equal(broken.stops, 1);

  for (const options of [{}, { count: true } as const]) {
    const lost = await run(options, (session) => session.fail(new Error('the tracer is gone')));
    assert.match(String(lost.result), /the tracer is gone/);
    assert.equal(lost.stops, 1);
  }

  const both = await run({}, (session) => {
    session.failure = new Error('the ring is damaged');
    session.stopFailure = new Error('can not stop');
  });
  assert.match(String(both.result), /can not stop/);
  assert.match(both.text, /the ring is damaged/);
});
