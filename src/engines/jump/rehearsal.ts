/** Working out a site as it would be made, without making it: what `explain` shows. */

import { address, type Address } from '../../base/brand.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import { layoutSegment, type SegmentShape } from '../../events/layout.ts';
import type { SiteMethod } from '../../process/control-rows.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { ControlBlock } from './block.ts';
import type { StubFeatures } from './features.ts';
import { JUMP_BYTES, JUMP_OPCODE, patchOf, SPRINGBOARD_BYTES } from './patches.ts';
import { prepareConsumers, type ConsumerRequest } from './prepare.ts';
import type { OriginalBytes } from './restore.ts';
import { CACHE_BYTES } from './runtime.ts';
import { choosePlaces } from './session-memory.ts';
import type { CodeWrite } from './writes.ts';

/** The smallest session: what it is about makes no difference to a site. */
const SHAPE: SegmentShape = { contextCount: 1, consumerCapacity: 1, ringBytes: 1 << 18 };
/** Behind `jmp [rip]`, what it reads. */
const WORD_BYTES = 8;

/** What a site would be. */
export interface RehearsedSite {
  readonly method: SiteMethod;
  /** Whether it is there already, and a program would only join its list. */
  readonly isThere: boolean;
  /** What is written at the place. */
  readonly patch: Uint8Array;
  readonly displacedBytes: number;
  readonly stub: Address;
  /** Where the jump leads, if not to the stub. */
  readonly via: Address | undefined;
  /** The stub, the program and the runtime, as they would be written; nothing of a stub that is there. */
  readonly code: readonly NamedCode[];
  /** What would be mapped for it, control block and rings left aside. */
  readonly mapped: readonly { readonly address: Address; readonly bytes: number }[];
}

/** Code with what it is. */
export interface NamedCode extends CodeWrite {
  readonly name: 'stub' | 'program' | 'runtime' | 'springboard';
  /** Words of eight bytes in it that are data. */
  readonly words: readonly Address[];
}

/** What the site is worked out for. */
export interface RehearsalTarget {
  readonly maps: readonly MemoryMapping[];
  /** Its control block, or an empty one; rows are added to it that nobody writes. */
  readonly block: ControlBlock;
  readonly original: OriginalBytes;
  readonly features: StubFeatures;
}

/**
 * Works out one site.
 * @returns why it can't be, if so
 * @throws TraplineError as {@link prepareConsumers} does.
 */
export function rehearse(
  target: RehearsalTarget,
  request: ConsumerRequest,
): RehearsedSite | string {
  const { maps, block, original, features } = target;
  const session = {
    id: 0n,
    tracer: 0,
    places: choosePlaces(maps, SHAPE),
    layout: layoutSegment(SHAPE),
    features,
    livenessBytes: PAGE_BYTES,
    cacheBytes: CACHE_BYTES,
  };
  const change = prepareConsumers({ maps, block, original, avoidsInside: () => false }, session, [
    request,
  ]);
  const [refused] = change.refused;
  const row = change.sites.get(request);
  if (refused !== undefined || row === undefined) return refused?.reason ?? 'it was not placed';
  const bytesAt = (from: Address, length: number): Uint8Array | undefined => {
    const write = change.code.find(
      ({ address: at, bytes }) => from >= at && from < at + BigInt(bytes.byteLength),
    );
    if (write === undefined) return undefined;
    const start = Number(from - write.address);
    return write.bytes.subarray(start, start + length);
  };
  const code: NamedCode[] = [];
  const add = (name: NamedCode['name'], at: Address, length: number, words: Address[]): void => {
    const bytes = bytesAt(at, length);
    if (bytes !== undefined) code.push({ name, address: at, bytes, words });
  };
  if (row.method === 'pun' && row.via !== undefined) {
    const isNear = bytesAt(row.via, 1)?.[0] === JUMP_OPCODE;
    const word = address(row.via + BigInt(SPRINGBOARD_BYTES - WORD_BYTES));
    if (isNear) add('springboard', row.via, JUMP_BYTES, []);
    else add('springboard', row.via, SPRINGBOARD_BYTES, [word]);
  }
  add('stub', row.stub, row.stubBytes, [row.list]);
  for (const { code: at, codeBytes, next } of block.programs.values()) {
    add('program', at, codeBytes, [next]);
  }
  for (const { runtime, runtimeBytes } of block.sessions.values()) {
    add('runtime', runtime, runtimeBytes, []);
  }
  return {
    method: row.method,
    isThere: !change.newSites.some((site) => site.row === row),
    patch: patchOf(row),
    displacedBytes: row.displacedBytes,
    stub: row.stub,
    via: row.via,
    code,
    mapped: change.newArenas,
  };
}
