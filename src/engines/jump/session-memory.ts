/**
 * The memory that a session has in a target: made by the target itself, one injected call after
 * another, and shared with us through the descriptors that it holds for that moment.
 */

import { ftruncateSync } from 'node:fs';

import { address, type Address, type Pid } from '../../base/brand.ts';
import { ensure, TraplineError } from '../../base/errors.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import {
  layoutSegment,
  SegmentHeader,
  type SegmentLayout,
  type SegmentShape,
} from '../../events/layout.ts';
import { formatSegment } from '../../events/segment.ts';
import { CONTROL_BYTES, CONTROL_NAME, LIVENESS_NAME, SEGMENT_NAME } from '../../process/control.ts';
import { findFreeAway, findFreeNear, type AddressRange } from '../../process/free-space.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { mapMemory, Protection, type Mapping } from '../../sys/mapping.ts';
import { addSeals, identifyFile, Seal } from '../../sys/memfd.ts';
import type { LivenessList, LivenessWord } from '../../sys/robust.ts';
import {
  MADV_WIPEONFORK,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  type Area,
  type Injection,
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
    new DataView(this.mapping.firstPage).setUint32(SegmentHeader.tidOffset, offset, true);
  }

  /**
   * Makes sure that a process has it: code that would refer to it is written there.
   * @throws TraplineError `no-process` for one that has called exec.
   */
  ensureIn(pid: Pid, maps: readonly MemoryMapping[]): void {
    const isThere = maps.some(
      ({ inode, path }) => inode === this.inode && path === `/memfd:${SEGMENT_NAME}`,
    );
    if (isThere) return;
    throw new TraplineError({
      code: 'no-process',
      message: `process ${pid} runs another program now`,
      hint: 'Begin another session on it, or follow it: `--follow`.',
    });
  }

  /** Says to the stubs that nobody reads any more. Hits from now on are counted as `tracer gone`. */
  end(): void {
    this.#word[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.end();
    this.mapping[Symbol.dispose]();
  }
}

/** Of a segment that is formatted once for the compiler's sake. */
const SMALL_SHAPE: SegmentShape = { contextCount: 1, consumerCapacity: 1, ringBytes: 1 << 18 };

/**
 * Our own address space for a segment that is about to be made, prepared before the target is stopped: code that runs for
 * the first time is compiled.
 * Whoever made it disposes it, unless {@link injectSessionMemory} has taken it over.
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
    void this.#mapping.firstPage;
    formatSegment(new ArrayBuffer(layoutSegment(SMALL_SHAPE).totalBytes), SMALL_SHAPE);
  }

  /** Maps the file where the draft is, and formats it. The view is the same. */
  replaceBy(fd: number): void {
    const { address: at, length, firstPage } = this.#mapping;
    mapMemory(length, { fd, at });
    formatSegment(firstPage, this.shape);
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

/** Chooses free places for a session's memory, out of the way of what has to be near text. @throws TraplineError `unsupported`. */
export function choosePlaces(maps: readonly MemoryMapping[], shape: SegmentShape): MemoryPlaces {
  const { totalBytes } = layoutSegment(shape);
  const bytes = totalBytes + PAGE_BYTES + CACHE_BYTES;
  const segment = findPlaceAway(maps, bytes, 'Try a smaller --ring-budget.');
  const liveness = address(segment + BigInt(totalBytes));
  return { segment, liveness, cache: address(liveness + BigInt(PAGE_BYTES)) };
}

/** A free place away from all text, near which puns may lead. @throws TraplineError `unsupported` when there is none. */
export function findPlaceAway(
  maps: readonly MemoryMapping[],
  bytes: number,
  hint: string,
): Address {
  const place = findFreeAway(maps, bytes);
  if (place !== undefined) return place;
  throw new TraplineError({
    code: 'unsupported',
    message: `there are no ${bytes} free bytes of address space in one piece`,
    hint,
  });
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
 * Adds what creates a session's memory to an injection.
 * @returns what takes the draft over and gives the memory, once the injection was made. If it fails, nothing
 * is left in the target.
 */
export function injectSessionMemory(
  injection: Injection,
  places: MemoryPlaces,
  draft: SegmentDraft,
  liveness: LivenessList,
): () => SessionMemory {
  const { layout } = draft;
  const made: { inode?: bigint; word?: LivenessWord } = {};
  injection.onFailure(() => made.word?.[Symbol.dispose]());
  const shared = PROT_READ | PROT_WRITE;
  const segment = injection.file(SEGMENT_NAME, (fd) => {
    ftruncateSync(fd, layout.totalBytes);
    addSeals(fd, Seal.shrink | Seal.grow | Seal.seal);
    made.inode = identifyFile(fd).inode;
    draft.replaceBy(fd);
  });
  injection.map({ address: places.segment, bytes: layout.totalBytes }, shared, MAP_SHARED, segment);
  injection.close(segment);
  const word = injection.file(LIVENESS_NAME, (fd) => {
    ftruncateSync(fd, PAGE_BYTES);
    made.word = liveness.register(fd);
    addSeals(fd, Seal.futureWrite | Seal.shrink | Seal.grow | Seal.seal);
  });
  injection.map({ address: places.liveness, bytes: PAGE_BYTES }, PROT_READ, MAP_SHARED, word);
  injection.close(word);
  const cache = { address: places.cache, bytes: CACHE_BYTES };
  injection.map(cache, shared, MAP_PRIVATE | MAP_ANONYMOUS);
  injection.advise(cache, MADV_WIPEONFORK);
  return () => {
    ensure(made.inode !== undefined && made.word !== undefined, 'the injection was made');
    return new SessionMemory(places, layout, draft.take(), made.inode, made.word);
  };
}

/**
 * Adds what maps the control block (if `block` is given) and arenas: private, never writable for the target,
 * all of one new file in memory, arenas from the same offset, since what is private is not shared.
 */
export function injectControl(
  injection: Injection,
  block: Address | undefined,
  arenas: readonly Area[],
): void {
  const largest = Math.max(0, ...arenas.map((area) => area.bytes));
  const file = injection.file(CONTROL_NAME, (fd) => ftruncateSync(fd, CONTROL_BYTES + largest));
  if (block !== undefined) {
    injection.map({ address: block, bytes: CONTROL_BYTES }, PROT_READ, MAP_PRIVATE, file);
  }
  for (const arena of arenas) {
    injection.map(arena, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, CONTROL_BYTES);
  }
  injection.close(file);
}
