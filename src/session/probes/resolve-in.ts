/** What probes mean in one process, worked out together. */

import type { Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { aboutWritten } from './origin.ts';
import type { PlaceRegistry, ResolvedPlace } from './place-registry.ts';
import type { ProbeAddition } from './probing.ts';

/** What a definition means in one process; undefined if that does not map its file. */
export interface ResolvedAddition {
  readonly addition: ProbeAddition;
  readonly places: readonly ResolvedPlace[] | undefined;
}

/**
 * What definitions mean in one process, worked out together.
 * @param refuse told of a definition that can't be resolved there; it is left out then
 * @throws TraplineError as resolving does, without `refuse`.
 */
export function resolveIn(
  registry: PlaceRegistry<ProbeAddition>,
  pid: Pid,
  maps: readonly MemoryMapping[],
  additions: readonly ProbeAddition[],
  refuse?: (addition: ProbeAddition, error: TraplineError) => void,
): ResolvedAddition[] {
  const attempt = <T>(addition: ProbeAddition, work: () => T): T[] => {
    if (refuse === undefined) return [aboutWritten(addition.written, work)];
    try {
      return [work()];
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      refuse(addition, error);
      return [];
    }
  };
  const meant = additions.flatMap((addition) =>
    attempt(addition, () => ({ addition, files: addition.register(pid, maps) })),
  );
  const shown = registry.placesIn(pid, maps);
  return meant.flatMap(({ addition, files }): ResolvedAddition[] => {
    if (files.length === 0) return [{ addition, places: undefined }];
    const places = shown.get(addition) ?? [];
    return attempt(addition, () => {
      addition.locate(pid, files, places);
      return { addition, places };
    });
  });
}
