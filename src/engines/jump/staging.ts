/** Working out a change of an address space, and where its memory goes, before anything is stopped. */

import { type Address, type Pid } from '../../base/brand.ts';
import { ensure, TraplineError } from '../../base/errors.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import { layoutSegment, type SegmentShape } from '../../events/layout.ts';
import { CONTROL_BYTES } from '../../process/control.ts';
import { asMapping, type MemoryMapping } from '../../process/maps.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { LivenessList } from '../../sys/robust.ts';
import { ControlBlock, type ReadMemory } from './block.ts';
import type { StubFeatures } from './features.ts';
import { isRequestThere } from './gone.ts';
import { BLOB_BYTES, Injection } from './injection.ts';
import { prepareConsumers, type ConsumerRequest, type PreparedChange } from './prepare.ts';
import { CACHE_BYTES } from './runtime.ts';
import {
  choosePlaces,
  findPlaceAway,
  injectControl,
  injectSessionMemory,
  type MemoryPlaces,
  type SegmentDraft,
  type SessionMemory,
} from './session-memory.ts';
import { BlobForesight, type TargetFiles } from './target-files.ts';

/** Arenas that one batch maps beside a session's memory and a control block. */
const ARENAS_AT_ONCE = 2;
/** The same in a batch of their own. */
const ARENAS_ALONE = 6;

/** The session that a change is for. */
export interface StagingSession {
  readonly id: bigint;
  readonly tracer: number;
  readonly shape: SegmentShape;
  /** Where its memory is; undefined before it has any. */
  readonly places: MemoryPlaces | undefined;
  readonly features: StubFeatures;
  readonly files: TargetFiles;
  /** What its memory is made from, if it has none yet. */
  readonly draft: SegmentDraft;
  readonly liveness: LivenessList;
  /** Places that must be taken in ways that no task can stand in: one did, again and again. */
  readonly avoidsInside: (request: ConsumerRequest) => boolean;
}

/** Everything worked out before a stop. */
export interface StagedChange {
  readonly block: ControlBlock;
  readonly change: PreparedChange;
  readonly places: MemoryPlaces;
  /** Where the control block will be, if there is none yet. */
  readonly newBlock: Address | undefined;
  /** What is about to be mapped. */
  readonly wanted: readonly MemoryMapping[];
  /** Makes the target map it. */
  readonly injections: readonly Injection[];
  /** Where the injections' blobs can lie. */
  readonly blobs: BlobForesight | undefined;
  /** Gives the session's memory when the injections were made; undefined if it had it before. */
  readonly takeMemory: (() => SessionMemory) | undefined;
}

/**
 * Works out the addition of consumers to an address space as its mappings and memory show it now.
 * @throws TraplineError `no-process`, `unsupported`, `limit`, `busy`, `bad-input`.
 */
export function stageChange(
  pid: Pid,
  maps: readonly MemoryMapping[],
  read: ReadMemory,
  session: StagingSession,
  requests: readonly ConsumerRequest[],
): StagedChange {
  const block = ControlBlock.read(maps, read);
  if (maps.length === 0) {
    throw new TraplineError({ code: 'no-process', message: `process ${pid} has ended` });
  }
  const { shape, id, tracer, features } = session;
  const places = session.places ?? choosePlaces(maps, shape);
  const layout = layoutSegment(shape);
  const wanted = session.places === undefined ? asMappings(places, layout.totalBytes) : [];
  let newBlock: Address | undefined;
  if (block.address === undefined) {
    newBlock = findPlaceAway(
      sorted([...maps, ...wanted]),
      CONTROL_BYTES,
      'The target has filled it.',
    );
    wanted.push(asMapping(newBlock, CONTROL_BYTES));
  }
  const preparing = {
    id,
    tracer,
    places,
    layout,
    features,
    livenessBytes: PAGE_BYTES,
    cacheBytes: CACHE_BYTES,
  };
  const target = {
    maps: sorted([...maps, ...wanted]),
    block,
    original: session.files.original(pid, maps),
    avoidsInside: session.avoidsInside,
  };
  const change = prepareConsumers(target, preparing, requests);
  wanted.push(...change.newArenas.map((arena) => asMapping(arena.address, arena.bytes)));
  const injecting = inject(session, places, newBlock, change);
  const blobs =
    injecting.injections.length === 0 ? undefined : new BlobForesight(session.files, pid, maps);
  return { block, change, places, newBlock, wanted, blobs, ...injecting };
}

/** Puts everything that has to be mapped into as few batches as hold it: one, as a rule. */
function inject(
  { draft, liveness, places: known }: StagingSession,
  places: MemoryPlaces,
  newBlock: Address | undefined,
  { newArenas }: PreparedChange,
): Pick<StagedChange, 'injections' | 'takeMemory'> {
  const injections: Injection[] = [];
  const next = (): Injection => {
    const injection = new Injection();
    injections.push(injection);
    return injection;
  };
  const takeMemory =
    known === undefined ? injectSessionMemory(next(), places, draft, liveness) : undefined;
  const first = newArenas.slice(0, ARENAS_AT_ONCE);
  if (newBlock !== undefined || first.length > 0) {
    injectControl(injections[0] ?? next(), newBlock, first);
  }
  for (let at = ARENAS_AT_ONCE; at < newArenas.length; at += ARENAS_ALONE) {
    injectControl(next(), undefined, newArenas.slice(at, at + ARENAS_ALONE));
  }
  for (const { blobBytes } of injections) {
    ensure(blobBytes <= BLOB_BYTES, 'a batch fits the places that are chosen for it');
  }
  return { injections, takeMemory };
}

/** Whether what was worked out before a stop still holds under it. */
export function stillFits(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  staged: StagedChange,
  requests: readonly ConsumerRequest[],
): boolean {
  // Another session may have come between the look at the mappings and that at the rows, which name its new ones.
  if (staged.block.contradictions > 0) return false;
  const isFree = ({ start, end }: MemoryMapping): boolean =>
    !maps.some((mapping) => mapping.start < end && mapping.end > start);
  const areThere = requests.every((request) => isRequestThere(maps, request));
  if (!staged.wanted.every(isFree) || !areThere) return false;
  const generation = ControlBlock.readGeneration(maps, (from, length) =>
    stopped.read(from, length),
  );
  return generation === (staged.newBlock === undefined ? staged.block.generation : undefined);
}

function asMappings(places: MemoryPlaces, segmentBytes: number): MemoryMapping[] {
  return [
    asMapping(places.segment, segmentBytes),
    asMapping(places.liveness, PAGE_BYTES),
    asMapping(places.cache, CACHE_BYTES),
  ];
}

function sorted(maps: readonly MemoryMapping[]): MemoryMapping[] {
  return [...maps].sort((a, b) => (a.start < b.start ? -1 : 1));
}
