/**
 * Adding probes to address spaces: a target's own, and those of its children, which share its memory but map what
 * they like.
 */

import type { Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import type { ConsumerRequest } from '../../engines/jump/prepare.ts';
import { readProcessMaps } from '../../engines/jump/spaces.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import type { FileCache } from '../files/files.ts';
import { requestsAt, settle } from '../probes/jump-requests.ts';
import { execRequests } from '../libraries/exec-hooks.ts';
import { hookRequest } from '../libraries/library-hook.ts';
import type { PlaceRegistry } from '../probes/place-registry.ts';
import { planPlaces } from '../probes/plans.ts';
import type { ProbeAddition } from '../probes/probing.ts';
import { resolveIn } from '../probes/resolve-in.ts';
import type { ServedProbes } from '../probes/served.ts';
import type { Target } from './target-set.ts';
import type { WalkedProcess } from '../walks/walk.ts';

/** One address space in which a target's memory is. */
export interface TargetSpace {
  readonly target: Target;
  readonly pid: Pid;
  readonly served: ServedProbes;
}

/** The hook among a target's consumers. */
const HOOK = 'hook';

/** What adding depends on. */
export interface AddingContext {
  readonly registry: PlaceRegistry<ProbeAddition>;
  readonly files: FileCache;
  /** Whether a process has the probes of another target: it shares its memory, or was forked by it meanwhile. */
  readonly isInherited: (process: WalkedProcess) => boolean;
  /** Whether what can't be done is told, and is no failure. */
  readonly isTolerant: boolean;
  /** Whether only this address space is meant, and no child of it. */
  readonly isAlone: boolean;
  /** Whether a target is to tell of what it executes. */
  readonly tellsExecs: boolean;
}

/**
 * Adds probes to one address space, all in one stop.
 * @returns those whose file it does not map.
 * @throws TraplineError as resolving does, unless that is only told, and when nothing could be done at all.
 */
export function addToSpace(
  space: TargetSpace,
  additions: readonly ProbeAddition[],
  context: AddingContext,
): ProbeAddition[] {
  if (additions.length === 0) return [];
  const { target, pid, served } = space;
  // Read once: there may be hundreds of definitions.
  const maps = readProcessMaps(pid);
  context.files.mappings.note(pid, () => maps);
  if (pid === target.pid && context.isInherited({ pid, maps })) {
    for (const { id } of additions) served.note(id, maps);
    return [];
  }
  const refuse = (addition: ProbeAddition, error: TraplineError): void => {
    if (error.code === 'no-process') throw error;
    refuseIn(space, addition, error, maps);
  };
  served.sync(maps);
  const found = resolveIn(
    context.registry,
    pid,
    maps,
    additions,
    context.isTolerant ? refuse : undefined,
  );
  const resolved = found.map(({ addition, places }) => {
    if (places === undefined) return { addition, places };
    served.note(addition.id, maps);
    // Those that are new: a file may be mapped twice, or again.
    return {
      addition,
      places: places.filter((place) => served.take(addition.id, place.address, maps)),
    };
  });
  const planOf = planPlaces(resolved.flatMap(({ places }) => places ?? []));
  const prepared = resolved.map(({ addition, places }) => {
    return { addition, requests: places && requestsAt(space, maps, addition, places, planOf) };
  });
  const all = prepared.flatMap(({ requests }) => [...(requests?.keys() ?? [])]);
  const reasons = addRequests(space, all, maps, context);
  return prepared.flatMap(({ addition, requests }) => {
    if (requests === undefined) return [addition];
    settle(space, addition, requests, reasons);
    return [];
  });
}

/** Has a target tell of its libraries, if it does not yet, and can. */
export function ensureHook({ target, pid }: TargetSpace, files: FileCache): void {
  if (target.hook !== undefined) return;
  const request = prepareHook(target, readProcessMaps(pid), files);
  if (request === undefined) return;
  const [failed] = target.jump.add([request]);
  if (failed !== undefined) target.hook = failed.reason;
}

/**
 * Has a target tell of what it executes, if it does not yet, and can.
 * @returns whether that is settled: not while it maps no C library
 */
export function ensureExecHooks({ target, pid }: TargetSpace, files: FileCache): boolean {
  const requests = prepareExecs(target, readProcessMaps(pid), files);
  if (requests.length > 0) target.jump.add(requests);
  return target.execs !== undefined;
}

/** Nothing is to be done for a probe in an address space, as far as its mappings are these. */
export function refuseIn(
  { pid, served }: TargetSpace,
  addition: ProbeAddition,
  error: TraplineError,
  maps: readonly MemoryMapping[],
): void {
  addition.refuseProcess(pid, error);
  served.note(addition.id, maps);
}

/** @returns why each of those was refused that was. */
function addRequests(
  { target, pid }: TargetSpace,
  requests: readonly ConsumerRequest[],
  maps: readonly MemoryMapping[],
  { files, isAlone, tellsExecs }: AddingContext,
): ReadonlyMap<ConsumerRequest, string> {
  if (requests.length === 0) return new Map();
  const isOwn = pid === target.pid;
  const hook = isOwn ? prepareHook(target, maps, files) : undefined;
  const execs = isOwn && tellsExecs ? prepareExecs(target, maps, files) : [];
  const all = [...requests, ...(hook === undefined ? [] : [hook]), ...execs];
  // Those that ask for themselves: looking for children takes a look at every process of the machine.
  const failed = isOwn && !isAlone ? target.jump.add(all) : target.jump.addIn(pid, all);
  const reasons = new Map(failed.map((one) => [one.request, one.reason]));
  const barred = hook && reasons.get(hook);
  if (barred !== undefined) target.hook = barred;
  return reasons;
}

/** The request for a target's hook, which is taken to be in from now on; undefined where it is, or can't be. */
function prepareHook(
  target: Target,
  maps: readonly MemoryMapping[],
  files: FileCache,
): ConsumerRequest | undefined {
  if (target.hook !== undefined) return undefined;
  // One that was taken out with the last probe has the same index again.
  const known = target.consumers.get(HOOK);
  const request = hookRequest(target.pid, maps, files, known ?? target.nextConsumer);
  target.hook = request;
  if (typeof request === 'string') return undefined;
  if (known === undefined) target.consumers.set(HOOK, target.nextConsumer++);
  return request;
}

/** The requests for what tells of programs that a target executes, taken to be in from now on. */
function prepareExecs(
  target: Target,
  maps: readonly MemoryMapping[],
  files: FileCache,
): ConsumerRequest[] {
  if (target.execs !== undefined) return [];
  const found = execRequests(target.pid, maps, files);
  if (found === undefined) return [];
  const requests = found.map(({ name, request }) => {
    return { ...request, consumer: ownConsumer(target, `exec:${name}`) };
  });
  target.execs = new Map(found.map(({ name }) => [ownConsumer(target, `exec:${name}`), name]));
  return requests;
}

/** The index of one of the session's own: one that was taken out with the last probe has the same again. */
function ownConsumer(target: Target, key: string): number {
  const known = target.consumers.get(key) ?? target.nextConsumer++;
  target.consumers.set(key, known);
  return known;
}
