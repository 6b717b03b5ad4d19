/**
 * What a program costs a hit, measured: the very code that runs in the target, run in our own process
 * on memory of the same layout. The bill of a session is made from this.
 */

import { address, type Address } from '../../base/brand.ts';
import { DisposableStack } from '../../base/dispose.ts';
import { median } from '../../base/median.ts';
import {
  ContextHeader,
  layoutSegment,
  SegmentHeader,
  TID_UNKNOWN,
  type RecordLayout,
  type SegmentLayout,
} from '../../events/layout.ts';
import { formatSegment } from '../../events/segment.ts';
import type { LostHit } from '../../probe/engine.ts';
import { layoutOf, type Program } from '../../probe/program.ts';
import { nanosecondsPerTick } from '../../sys/clock.ts';
import { runCode } from '../../sys/execute.ts';
import { mapMemory, Protection, type Mapping } from '../../sys/mapping.ts';
import { FUTEX_OWNER_DIED } from '../../sys/robust.ts';
import { Assembler } from '../../x64/assembler.ts';
import { timedLoop } from '../../x64/timed-loop.ts';
import { compileProgram } from './compile.ts';
import type { StubFeatures } from './features.ts';
import { RED_ZONE_BYTES } from './frame.ts';
import { CACHE_BYTES, emitRuntime, type SessionAddresses } from './runtime.ts';
import { assembleStub } from './stub.ts';

/** Room for the longest program; what is not touched costs nothing. */
const CODE_BYTES = 4 << 20;
const ROUNDS = 9;
/** Hits in a round at most; fewer where the ring holds fewer records. */
const HITS = 4096;
/** The same where each of them asks the kernel who it is, and looks through all contexts. */
const HITS_WITHOUT_CONTEXT = 256;
/** Contexts that are looked through at most, lest measuring take long: where there are more, a hit costs more. */
const MOST_CONTEXTS = 256;
const RING_BYTES = 256 << 10;
/** Where nobody gets one. */
const SMALLEST_RING_BYTES = 4096;
/** No task has this number. */
const NOBODY = 0xffff_fffe;
const SITE_NOP_BYTES = 5;

/** What {@link measureProgram} depends on. */
export interface MeasureOptions {
  readonly features: StubFeatures;
  /** Where our own runtime keeps the thread id, relative to fs; undefined if that is not known. */
  readonly tidOffset: number | undefined;
  /** Of a target: so many are looked through for a hit that finds them all taken. */
  readonly contextCount: number;
  /** Where the hits are to be lost, and why. */
  readonly lost: LostHit | undefined;
}

/**
 * Measures one hit of a program.
 * @returns nanoseconds that a hit adds: the median of several rounds with the probe, less that without.
 */
export function measureProgram(program: Program, options: MeasureOptions): number {
  using stack = new DisposableStack();
  const bench = new Bench(program, options, stack);
  const bare: number[] = [];
  const probed: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    bare.push(bench.run(bench.bare));
    probed.push(bench.run(bench.probed));
  }
  return Math.max(0, median(probed) - median(bare)) * nanosecondsPerTick();
}

/** Where things lie in the code that is measured, in bytes from its start. */
const Place = {
  runtime: 0,
  bare: 4096,
  probed: 4160,
  stub: 4224,
  loops: 6144,
  program: 8192,
} as const;

function layoutFor({ lost, contextCount }: MeasureOptions): SegmentLayout {
  const isCrowded = lost === 'noContext';
  return layoutSegment({
    contextCount: isCrowded ? Math.min(contextCount, MOST_CONTEXTS) : 2,
    consumerCapacity: 1,
    ringBytes: isCrowded ? SMALLEST_RING_BYTES : RING_BYTES,
  });
}

/** How many hits a round has. */
function hitsFor({ lost }: MeasureOptions, layout: SegmentLayout, record: RecordLayout): number {
  if (lost === 'noContext') return HITS_WITHOUT_CONTEXT;
  return Math.min(HITS, Math.floor(layout.ringBytes / record.maxBytes / 2));
}

class Bench {
  readonly bare: Address;
  readonly probed: Address;
  readonly #hits: number;
  readonly #result = Buffer.alloc(8);
  readonly #memory: Mapping;
  readonly #layout: SegmentLayout;
  readonly #lost: LostHit | undefined;

  constructor(program: Program, options: MeasureOptions, stack: DisposableStack) {
    this.#lost = options.lost;
    this.#layout = layoutFor(options);
    const code = stack.use(mapMemory(CODE_BYTES));
    this.#memory = stack.use(mapMemory(this.#layout.totalBytes));
    const at = (place: number): Address => address(code.address + BigInt(place));
    const liveness = stack.use(mapMemory(4096));
    const session: SessionAddresses = {
      liveness: liveness.address,
      segment: this.#memory.address,
      cache: stack.use(mapMemory(CACHE_BYTES)).address,
      runtime: at(Place.runtime),
    };
    formatSegment(this.#memory.view, this.#layout);
    const header = new DataView(this.#memory.view);
    header.setUint32(SegmentHeader.tidOffset, options.tidOffset ?? TID_UNKNOWN, true);
    const record = layoutOf(program);
    this.#hits = hitsFor(options, this.#layout, record);
    this.#lose(liveness);
    const stub = assembleStub({
      origin: at(Place.stub),
      redZone: RED_ZONE_BYTES,
      displace: () => ({ bytes: new Uint8Array(), map: [] }),
      back: at(Place.probed + SITE_NOP_BYTES),
    });
    const compiled = compileProgram({
      program,
      record,
      session,
      segment: this.#layout,
      features: options.features,
      origin: at(Place.program),
      site: at(Place.probed),
      fileOffset: 0n,
      redZone: RED_ZONE_BYTES,
      consumer: 0,
      next: stub.epilogue,
    });
    const loop = (place: number, site: number): Uint8Array =>
      timedLoop(at(place), at(site), this.#hits);
    const bareLoop = loop(Place.loops, Place.bare);
    const probedLoopAt = (Place.loops + bareLoop.byteLength + 63) & ~63;
    const bytes = new Uint8Array(code.view);
    bytes.set(emitRuntime(at(Place.runtime), session, this.#layout), Place.runtime);
    bytes.set(new Assembler(at(Place.bare)).nop(SITE_NOP_BYTES).ret().finish(), Place.bare);
    const jump = new Assembler(at(Place.probed)).jmp(at(Place.stub), 'near').ret();
    bytes.set(jump.finish(), Place.probed);
    bytes.set(stub.bytes, Place.stub);
    bytes.set(compiled.bytes, Place.program);
    const list = Number(stub.list - code.address);
    new DataView(code.view).setBigUint64(list, at(Place.program), true);
    bytes.set(bareLoop, Place.loops);
    bytes.set(loop(probedLoopAt, Place.probed), probedLoopAt);
    this.bare = at(Place.loops);
    this.probed = at(probedLoopAt);
    code.protect(Protection.read | Protection.execute);
  }

  /** Ticks of one call, the loop included. */
  run(code: Address): number {
    runCode(code, this.#result);
    if (this.#lost === undefined) {
      this.#eachContext((view, start) => {
        const head = view.getBigUint64(start + ContextHeader.head, true);
        view.setBigUint64(start + ContextHeader.tail, head, true);
      });
    }
    return Number(this.#result.readBigUInt64LE(0)) / this.#hits;
  }

  /** Leaves no room in any ring, no context, or no session, as hits are to be lost. */
  #lose(liveness: Mapping): void {
    const lost = this.#lost;
    if (lost === 'tracerGone') new DataView(liveness.view).setUint32(0, FUTEX_OWNER_DIED, true);
    const full = BigInt(this.#layout.ringBytes);
    this.#eachContext((view, start) => {
      if (lost === 'noContext') view.setUint32(start + ContextHeader.tid, NOBODY, true);
      if (lost !== 'ringFull') return;
      view.setBigUint64(start + ContextHeader.tail, full, true);
      view.setBigUint64(start + ContextHeader.head, full * 2n, true);
    });
  }

  #eachContext(work: (view: DataView, start: number) => void): void {
    const view = new DataView(this.#memory.view);
    const { contextCount, contextsOffset, contextStride } = this.#layout;
    for (let context = 0; context < contextCount; context++) {
      work(view, contextsOffset + context * contextStride);
    }
  }
}
