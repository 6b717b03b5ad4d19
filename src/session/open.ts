/** Beginning sessions. */

import { TraplineError } from '../base/errors.ts';
import { decideShape } from './options.ts';
import { wantedOf, withoutFilter } from './wanted.ts';
import type { OpenReply } from './protocol.ts';
import { Session } from './session.ts';
import { TracerClient } from './tracer-client.ts';
import type { ProbeRequest, SessionOptions, SpawnOptions, TargetSelection } from './types.ts';

/**
 * Probes running processes; not children that `node:child_process` of this process has started: see {@link spawn}.
 * @throws TraplineError: `usage`, `bad-definition`, `no-process`, `no-file`, `no-symbol`, `not-permitted`,
 * `refused`, `busy`, `unsupported`. Nothing is left in any target then.
 */
export async function attach(
  targets: TargetSelection,
  options: SessionOptions = {},
): Promise<Session> {
  const requests = requestsOf(options);
  return open(options, requests, async (client) => {
    const wanted = await wantedOf(client, options.engine, targets, requests);
    return client.call('attach', targets, decideShape(options), wanted);
  });
}

/**
 * Starts a command with its probes in place: at its first instruction, and each library's before any of
 * its code runs.
 * @param command the program, searched for in PATH, and its arguments
 * @throws TraplineError as {@link attach}; the command has not run any code of its own then.
 */
export async function spawn(
  command: readonly string[],
  options: SpawnOptions = {},
): Promise<Session> {
  // The tracer's own copy is as old as its thread.
  const { cwd, env = process.env } = options;
  const where = { ...(cwd === undefined ? {} : { cwd }), env: { ...env } };
  const requests = requestsOf(options);
  const filtered = requests.find(({ tasks }) => tasks !== undefined);
  if (filtered !== undefined) {
    throw new TraplineError({
      code: 'usage',
      message: `${filtered.definition}: a command that is started has no task filter`,
      hint: 'It is named already: leave the filter out.',
    });
  }
  return open(options, requests, (client) =>
    client.call('spawn', command, where, decideShape(options), requests.map(withoutFilter)),
  );
}

/**
 * Starts what the next {@link attach} or {@link spawn} needs, a thread and its decoder, while the caller has
 * other things to do. What fails in that thread is thrown by them.
 */
export function prepare(): void {
  TracerClient.prepare();
}

async function open(
  { engine = 'jump', onTarget, onProblem }: SessionOptions,
  requests: readonly ProbeRequest[],
  begin: (client: TracerClient) => Promise<OpenReply>,
): Promise<Session> {
  const client = TracerClient.take();
  try {
    // What reads is loaded, and has compared the clocks, while the tracer works.
    const [reply, collector, { TargetWatch }] = await Promise.all([
      begin(client),
      import('./collector.ts').then(({ Collector }) => new Collector(engine)),
      import('./target-watch.ts'),
    ]);
    const watch = new TargetWatch(
      reply,
      client,
      (pid) => collector.markDead(pid),
      () => collector.releaseDeadTasks(),
    );
    try {
      const filters = requests.map(({ tasks }) => tasks);
      const told = { onTarget, onProblem };
      return Session.begin({ client, collector, watch, engine, filters, ...told }, reply);
    } catch (error) {
      watch[Symbol.dispose]();
      throw error;
    }
  } catch (error) {
    // It may have begun on the tracer's side. What went wrong first tells more.
    await client.call('abandon').catch(() => undefined);
    await client.end();
    throw error;
  }
}

function requestsOf(options: SessionOptions): ProbeRequest[] {
  return (options.probes ?? []).map((probe) =>
    typeof probe === 'string' ? { definition: probe } : probe,
  );
}
