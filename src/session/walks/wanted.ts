/** From requests with task filters to what the tracer is asked for: the processes that each is for. */

import { TraplineError } from '../../base/errors.ts';
import type { EngineName } from '../../probe/engine.ts';
import { compileTaskFilter, type ProcessFacts, type TaskFilter } from '../../probe/task-filter.ts';
import type { WantedProbe } from '../protocol.ts';
import type { TracerClient } from '../tracer-client.ts';
import type { ProbeRequest, TargetSelection } from '../types.ts';

/** A request without its filter: for every target. */
export function withoutFilter(request: ProbeRequest): WantedProbe {
  const { tasks, ...rest } = request;
  void tasks; // a predicate of it can't be sent
  return rest;
}

/**
 * Asks the filters of some requests about all processes that they could be for.
 * @param selection of a session that is to begin; none for one that there is
 * @param isForAll whether every process is meant: those that have to be asked for even without a filter
 * @throws TraplineError `usage` for a filter that makes no sense, `unsupported` for one of the kernel engine's.
 */
export async function wantedOf(
  client: TracerClient,
  engine: EngineName = 'jump',
  selection: TargetSelection | undefined,
  requests: readonly ProbeRequest[],
  isForAll: boolean = selection?.all === true,
): Promise<WantedProbe[]> {
  const filtered = requests.find(({ tasks }) => tasks !== undefined);
  if (engine === 'kernel') {
    if (filtered !== undefined) throw notForKernel(filtered);
    return requests.map(withoutFilter);
  }
  const accepts = requests.map(({ tasks }) => acceptanceOf(tasks));
  if (filtered === undefined && !isForAll) return requests.map(withoutFilter);
  const wanted = requests.map(withoutFilter);
  const candidates = await client.call('candidates', selection, wanted);
  return wanted.map((request, at) => {
    const its = candidates.filter(({ probes }) => probes.includes(at));
    const pids = its.map(({ process }) => process).filter((process) => accepts[at]?.(process));
    return { ...request, pids: pids.map(({ pid }) => pid) };
  });
}

/** A filter, or none, as a function. @throws TraplineError `usage`. */
export function acceptanceOf(filter: TaskFilter | undefined): (process: ProcessFacts) => boolean {
  return filter === undefined ? () => true : compileTaskFilter(filter);
}

function notForKernel({ definition }: ProbeRequest): TraplineError {
  return new TraplineError({
    code: 'unsupported',
    message: `${definition}: the kernel engine has no task filters`,
    hint: "The kernel's own filters choose by `comm` and `common_pid` at each hit: --filter 'comm ~ \"name*\"'.",
  });
}
