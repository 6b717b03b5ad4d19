/** `trapline trace`: from the request to the exit status. */

import {
  attach,
  spawn,
  type ListedProbe,
  type ProbeRequest,
  type Session,
  type TargetInfo,
  type TaskFilter,
} from '../index.ts';
import { painterFor } from '../screen/colour.ts';
import { Ending } from './ending.ts';
import { follow } from './follow.ts';
import { FoundProcesses } from './found.ts';
import { DescriptorMessages } from './messages.ts';
import { openOutput } from './output.ts';
import { ProbeFile, readProbeFile } from './probe-file.ts';
import type { TraceOptions, TraceRequest } from './trace-options.ts';
import { waitingFor } from './waiting.ts';

/**
 * Traces until something ends it, and takes everything out again.
 * @returns the exit status: the command's own, if one was started.
 * @throws TraplineError what the session throws; it has been stopped by then.
 */
export async function trace(request: TraceRequest): Promise<number> {
  // Before anything is attached to: a file that can't be written leaves no trace.
  using output = openOutput(request.options.output);
  const { probes: path } = request.options;
  const listed = path === undefined ? [] : readProbeFile(path);
  using ending = new Ending();
  const messages = new DescriptorMessages();
  const paint = painterFor(process.stderr);
  using found = new FoundProcesses(messages, paint);
  await using session = await begin(request, listed, found);
  const around = {
    output,
    ending,
    messages,
    paint,
    tellRest: () => found.tellRest(),
    kill: (pid: number, signal: NodeJS.Signals) => process.kill(pid, signal),
  };
  if (path === undefined) return await follow(request, session, around);
  using file = new ProbeFile(session, {
    ...around,
    path,
    lines: listed,
    others: request.probes,
    requestOf: (line) => requestOf(request, line),
    isQuiet: request.options.quiet === true,
  });
  void ending.asked.then(() => file[Symbol.dispose]());
  return await follow(request, session, around);
}

function requestOf(
  { options }: TraceRequest,
  { definition, origin }: Pick<ProbeRequest, 'definition' | 'origin'>,
): ProbeRequest {
  const tasks = taskFilterOf(options);
  return {
    definition,
    ...(origin !== undefined && { origin }),
    ...(tasks && { tasks }),
    action: options.count === true ? 'count' : 'record',
    ...(options.exclude && { exclude: options.exclude }),
    ...(options.filter && { filter: options.filter }),
  };
}

function taskFilterOf({ comm, exe, cgroup, uid, tree }: TraceOptions): TaskFilter | undefined {
  const filter = {
    ...(comm !== undefined && { comm }),
    ...(exe !== undefined && { executable: exe }),
    ...(cgroup !== undefined && { cgroup }),
    ...(uid && { uids: uid }),
    ...(tree && { trees: tree }),
  };
  return Object.keys(filter).length > 0 ? filter : undefined;
}

function begin(
  request: TraceRequest,
  listed: readonly ListedProbe[],
  found: FoundProcesses,
): Promise<Session> {
  const { probes, command, options } = request;
  const named = [...new Set(probes)].map((definition) => ({ definition }));
  const fromFile = listed.filter(({ definition }) => !probes.includes(definition));
  const sessionOptions = {
    probes: [...named, ...fromFile].map((one) => requestOf(request, one)),
    ...(options.engine !== 'auto' && { engine: options.engine }),
    ...(options.ringSize !== undefined && { ringBytes: options.ringSize }),
    ...(options.ringBudget !== undefined && { ringBudget: options.ringBudget }),
    ...(options.perfMap && { perfMap: true }),
    ...(options.follow !== undefined && { follow: options.follow }),
    ...(options.quiet !== true && { onTarget: (target: TargetInfo) => found.add(target) }),
    onProblem: (problem: string) => found.addProblem(problem),
  };
  if (command !== undefined) return waitingFor('starting', spawn(command, sessionOptions));
  const targets = {
    ...(options.pid && { pids: options.pid }),
    ...(options.tid && { tids: options.tid }),
    ...(options.all && { all: true }),
  };
  return waitingFor('attaching', attach(targets, sessionOptions));
}
