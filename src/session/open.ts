/** Beginning sessions. */

import { TraplineError } from '../base/errors.ts';
import { decideShape } from './options.ts';
import { requestOf } from './probes/requested.ts';
import { acceptanceOf, wantedOf, withoutFilter } from './walks/wanted.ts';
import type { Following, OpenReply } from './protocol.ts';
import { Session } from './session.ts';
import { TracerClient } from './tracer-client.ts';
import { TracerThread } from './tracer-thread.ts';
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
    const following = options.follow === true ? followingOf(options, requests) : undefined;
    if (following !== undefined && targets.all === true) throw notForAll();
    const wanted = await wantedOf(client, options.engine, targets, requests);
    return client.call('attach', targets, decideShape(options), wanted, following);
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
  // The kernel's uprobes follow by themselves.
  const isFollowing = options.follow ?? options.engine !== 'kernel';
  const following = isFollowing ? followingOf(options, requests) : undefined;
  const filtered = requests.find(({ tasks }) => tasks !== undefined);
  if (filtered !== undefined && following === undefined) {
    throw new TraplineError({
      code: 'usage',
      message: `${filtered.definition}: a command that is started and not followed has no task filter`,
      hint: 'It is named already: leave the filter out, or have what it starts followed.',
    });
  }
  const wanted = requests.map((request) => {
    // Nobody gets one that has a filter before that was asked.
    return { ...withoutFilter(request), ...(request.tasks && { pids: [] }) };
  });
  return open(options, requests, (client) =>
    client.call('spawn', command, where, decideShape(options), wanted, following),
  );
}

/** @throws TraplineError `usage` for an engine that holds nobody, or a filter that can't be. */
function followingOf(options: SessionOptions, requests: readonly ProbeRequest[]): Following {
  if (options.engine === 'kernel') {
    throw new TraplineError({
      code: 'usage',
      message: 'the kernel engine does not follow by holding',
      hint: 'It sees what its targets fork and execute by itself: leave `follow` out.',
    });
  }
  const filters = requests.flatMap(({ tasks }) => tasks ?? []);
  for (const filter of filters) acceptanceOf(filter);
  return {
    hasFilters: filters.length > 0,
    filtersChildren: filters.some(({ pids, trees, accepts }) => pids ?? trees ?? accepts),
  };
}

function notForAll(): TraplineError {
  return new TraplineError({
    code: 'usage',
    message: 'every process can not be held',
    hint: 'Those that start later are found anyway: leave `follow` out.',
  });
}

/**
 * Starts what the next {@link attach} or {@link spawn} needs, a thread and its decoder, while the caller has
 * other things to do. What fails in that thread is thrown by them.
 */
export function prepare(): void {
  TracerThread.prepare();
}

/**
 * Ends the threads that wait for the next session: what {@link prepare} has started, and those that sessions have
 * left, four at most. Each has some 30 MB; a session that begins without one takes 0.1 s longer.
 */
export async function endIdle(): Promise<void> {
  await TracerThread.endIdle();
}

async function open(
  { engine = 'jump', onTarget, onProblem }: SessionOptions,
  requests: readonly ProbeRequest[],
  begin: (client: TracerClient) => Promise<OpenReply>,
): Promise<Session> {
  const client = new TracerClient();
  try {
    // What reads is loaded, and has compared the clocks, while the tracer works.
    const [reply, collector, { TargetWatch }] = await Promise.all([
      begin(client),
      import('./reading/collector.ts').then(({ Collector }) => new Collector(engine)),
      import('./targets/target-watch.ts'),
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
  return (options.probes ?? []).map((probe) => requestOf(probe));
}
