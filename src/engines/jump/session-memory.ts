/**
 * The memory that a session has in a target: made by the target itself, one injected call after
 * another, and shared with us through the descriptors that it holds for that moment.
 */

import { ftruncateSync } from 'node:fs';

import { address, type Address } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import {
  layoutSegment,
  PAGE_BYTES,
  SegmentHeader,
  type SegmentLayout,
  type SegmentShape,
} from '../../events/layout.ts';
import { formatSegment } from '../../events/segment.ts';
import type { BlobPlace } from '../../process/blob-place.ts';
import type { RemoteCall } from '../../process/blob.ts';
import { CONTROL_BYTES, CONTROL_NAME, LIVENESS_NAME, SEGMENT_NAME } from '../../process/control.ts';
import { findFreeNear, type AddressRange } from '../../process/free-space.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { mapMemory, Protection, type Mapping } from '../../sys/mapping.ts';
import { addSeals, identifyFile, Seal } from '../../sys/memfd.ts';
import type { LivenessList, LivenessWord } from '../../sys/robust.ts';
import {
  Call,
  createFile,
  MADV_WIPEONFORK,
  map,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  runBatch,
  type Area,
  type MappedRange,
} from './injection.ts';
import { CACHE_BYTES } from './runtime.ts';

/** Where a session's memory will be, chosen before the target is stopped. */
export interface MemoryPlaces {
  readonly segment: Address;
  readonly liveness: Address;
  readonly cache: Address;
}

/** Our side of a session's memory in one target and its children. The session owns it. */
export class SessionMemory implements Disposable {
  readonly places: MemoryPlaces;
  readonly layout: SegmentLayout;
  /** Our view of the segment. */
  readonly mapping: Mapping;
  /** The segment's inode: who maps it has, or is about to have, our probes. */
  readonly inode: bigint;
  readonly #word: LivenessWord;

  constructor(
    places: MemoryPlaces,
    layout: SegmentLayout,
    mapping: Mapping,
    inode: bigint,
    word: LivenessWord,
  ) {
    this.places = places;
    this.layout = layout;
    this.mapping = mapping;
    this.inode = inode;
    this.#word = word;
  }

  /** Tells the stubs where the runtime keeps the thread id; until then each hit asks the kernel. */
  setTidOffset(offset: number): void {
    new DataView(this.mapping.view).setUint32(SegmentHeader.tidOffset, offset, true);
  }

  /** Says to the stubs that nobody reads any more. Hits from now on are counted as `tracer gone`. */
  end(): void {
    this.#word[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.mapping[Symbol.dispose]();
  }
}

/** Of a segment that is formatted once for the compiler's sake. */
const SMALL_SHAPE: SegmentShape = { contextCount: 1, consumerCapacity: 1, ringBytes: 1 << 18 };

/**
 * Our own address space for a segment that is about to be made, prepared before the target is stopped: a
 * view of so much memory lets V8 collect garbage, and code that runs for the first time is compiled.
 * Whoever made it disposes it, unless {@link createSessionMemory} has taken it over.
 */
export class SegmentDraft implements Disposable {
  readonly shape: SegmentShape;
  readonly layout: SegmentLayout;
  readonly #mapping: Mapping;
  #isTaken = false;

  constructor(shape: SegmentShape) {
    this.shape = shape;
    this.layout = layoutSegment(shape);
    // Not accessible, so that it counts for nothing: it may be larger than what is free.
    this.#mapping = mapMemory(this.layout.totalBytes, { protection: Protection.none });
    void this.#mapping.view;
    formatSegment(new ArrayBuffer(layoutSegment(SMALL_SHAPE).totalBytes), SMALL_SHAPE);
  }

  /** Maps the file where the draft is, and formats it. The view is the same. */
  replaceBy(fd: number): void {
    const { address: at, length, view } = this.#mapping;
    mapMemory(length, { fd, at });
    formatSegment(view, this.shape);
  }

  /** The mapping, which is the caller's from now on. */
  take(): Mapping {
    this.#isTaken = true;
    return this.#mapping;
  }

  [Symbol.dispose](): void {
    if (!this.#isTaken) this.#mapping[Symbol.dispose]();
  }
}

/** Chooses free places near `text` for a session's memory. @throws TraplineError `unsupported`. */
export function choosePlaces(
  maps: readonly MemoryMapping[],
  text: AddressRange,
  shape: SegmentShape,
): MemoryPlaces {
  const { totalBytes } = layoutSegment(shape);
  const segment = findPlace(maps, text, totalBytes + PAGE_BYTES + CACHE_BYTES);
  const liveness = address(segment + BigInt(totalBytes));
  return { segment, liveness, cache: address(liveness + BigInt(PAGE_BYTES)) };
}

/** A free place in reach of `text`. @throws TraplineError `unsupported` when there is none. */
export function findPlace(
  maps: readonly MemoryMapping[],
  text: AddressRange,
  bytes: number,
): Address {
  const place = findFreeNear(maps, text, bytes);
  if (place !== undefined) return place;
  throw new TraplineError({
    code: 'unsupported',
    message: `there are no ${bytes} free bytes of address space within 2 GB of the code`,
    hint: 'The target has mapped everything around it.',
  });
}

/**
 * Creates a session's memory in a stopped target. Takes the draft over, unless it throws.
 * @throws TraplineError when the target could not map it; nothing is left there then.
 */
export function createSessionMemory(
  stopped: StoppedProcess,
  place: BlobPlace,
  places: MemoryPlaces,
  draft: SegmentDraft,
  liveness: LivenessList,
): SessionMemory {
  const { layout } = draft;
  const made: { inode?: bigint; word?: LivenessWord } = {};
  const shared = PROT_READ | PROT_WRITE;
  const anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  const calls: RemoteCall[] = [
    createFile(SEGMENT_NAME),
    map(places.segment, layout.totalBytes, shared, MAP_SHARED, 0),
    { number: Call.close, arguments: [{ result: 0 }] },
    createFile(LIVENESS_NAME),
    map(places.liveness, PAGE_BYTES, PROT_READ, MAP_SHARED, 3),
    { number: Call.close, arguments: [{ result: 3 }] },
    map(places.cache, CACHE_BYTES, shared, anonymous, undefined),
    {
      number: Call.madvise,
      arguments: [places.cache, BigInt(CACHE_BYTES), MADV_WIPEONFORK],
    },
  ];
  const mapped: MappedRange[] = [
    { call: 1, address: places.segment, bytes: layout.totalBytes },
    { call: 4, address: places.liveness, bytes: PAGE_BYTES },
    { call: 6, address: places.cache, bytes: CACHE_BYTES },
  ];
  try {
    runBatch(stopped, place, calls, mapped, (index, fd) => {
      if (index === 0) {
        ftruncateSync(fd, layout.totalBytes);
        addSeals(fd, Seal.shrink | Seal.grow | Seal.seal);
        made.inode = identifyFile(fd).inode;
        draft.replaceBy(fd);
      } else if (index === 3) {
        ftruncateSync(fd, PAGE_BYTES);
        made.word = liveness.register(fd);
        addSeals(fd, Seal.futureWrite | Seal.shrink | Seal.grow | Seal.seal);
      }
    });
    const { inode, word } = made;
    if (inode === undefined || word === undefined) {
      throw new TraplineError({ code: 'internal', message: 'internal error: a file was not made' });
    }
    return new SessionMemory(places, layout, draft.take(), inode, word);
  } catch (error) {
    made.word?.[Symbol.dispose]();
    throw error;
  }
}

/** Maps the control block (if `block` is given) and arenas: private, never writable for the target. */
export function mapControl(
  stopped: StoppedProcess,
  place: BlobPlace,
  block: Address | undefined,
  arenas: readonly Area[],
): void {
  if (block !== undefined) {
    mapPrivate(stopped, place, [{ address: block, bytes: CONTROL_BYTES }], PROT_READ, 0);
  }
  // A batch can hold only so many calls.
  for (let first = 0; first < arenas.length; first += 6) {
    const some = arenas.slice(first, first + 6);
    mapPrivate(stopped, place, some, PROT_READ | PROT_EXEC, CONTROL_BYTES);
  }
}

/** Maps areas of one new file in memory, all from the same offset: what is private is not shared. */
function mapPrivate(
  stopped: StoppedProcess,
  place: BlobPlace,
  areas: readonly Area[],
  protection: bigint,
  offset: number,
): void {
  const calls = [
    createFile(CONTROL_NAME),
    ...areas.map((area) => map(area.address, area.bytes, protection, MAP_PRIVATE, 0, offset)),
    { number: Call.close, arguments: [{ result: 0 }] },
  ];
  const mapped = areas.map((area, index) => ({ call: index + 1, ...area }));
  const largest = Math.max(...areas.map((area) => area.bytes));
  runBatch(stopped, place, calls, mapped, (index, fd) => {
    if (index === 0) ftruncateSync(fd, offset + largest);
  });
}
