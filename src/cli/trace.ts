/** `trapline trace`: from the request to the exit status. */

import { attach, spawn, type ProbeRequest, type Session } from '../index.ts';
import { painterFor } from '../screen/colour.ts';
import { Ending } from './ending.ts';
import { follow } from './follow.ts';
import { DescriptorMessages } from './messages.ts';
import { openOutput } from './output.ts';
import type { TraceRequest } from './trace-options.ts';
import { waitingFor } from './waiting.ts';

/**
 * Traces until something ends it, and takes everything out again.
 * @returns the exit status: the command's own, if one was started.
 * @throws TraplineError what the session throws; it has been stopped by then.
 */
export async function trace(request: TraceRequest): Promise<number> {
  // Before anything is attached to: a file that can't be written leaves no trace.
  using output = openOutput(request.options.output);
  using ending = new Ending();
  await using session = await begin(request);
  return await follow(request, session, {
    output,
    ending,
    messages: new DescriptorMessages(),
    paint: painterFor(process.stderr),
    kill: (pid, signal) => process.kill(pid, signal),
  });
}

function begin({ probes, command, options }: TraceRequest): Promise<Session> {
  const requests = probes.map((definition): ProbeRequest => {
    const action = options.count === true ? 'count' : 'record';
    return { definition, action, ...(options.exclude && { exclude: options.exclude }) };
  });
  const sessionOptions = {
    probes: requests,
    ...(options.engine !== 'auto' && { engine: options.engine }),
    ...(options.ringSize !== undefined && { ringBytes: options.ringSize }),
    ...(options.ringBudget !== undefined && { ringBudget: options.ringBudget }),
    ...(options.perfMap && { perfMap: true }),
  };
  if (command !== undefined) return waitingFor('starting', spawn(command, sessionOptions));
  const targets = {
    ...(options.pid && { pids: options.pid }),
    ...(options.tid && { tids: options.tid }),
    ...(options.all && { all: true }),
  };
  return waitingFor('attaching', attach(targets, sessionOptions));
}
