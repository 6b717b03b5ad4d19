/** One site with a program in our own process: the stub's machine code on memory of a session's layout. */

import { address } from '../../../src/base/brand.ts';
import { compileProgram } from '../../../src/engines/jump/compile.ts';
import { RED_ZONE_BYTES } from '../../../src/engines/jump/frame.ts';
import { CACHE_BYTES, emitRuntime } from '../../../src/engines/jump/runtime.ts';
import { assembleStub } from '../../../src/engines/jump/stub.ts';
import { Clock } from '../../../src/events/clock.ts';
import { DescriptorTable } from '../../../src/events/descriptor.ts';
import type { TraceEvent } from '../../../src/events/event.ts';
import { layoutSegment } from '../../../src/events/layout.ts';
import { EventMerger } from '../../../src/events/merge.ts';
import { SegmentReader, formatSegment } from '../../../src/events/segment.ts';
import { partsOf } from '../events/writer.ts';
import { layoutOf, type Program } from '../../../src/probe/program.ts';
import type { EventClock } from '../../../src/sys/clock.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import {
  assembleHarness,
  callCode,
  mapRegion,
  STATE_WORDS,
  type Region,
} from '../x64/executable.ts';

/** Where things lie; every test of this file has its own megabytes. */
const Place = { code: 0x10_0000_0000n, memory: 0x50_0000_0000n } as const;
const At = {
  harness: 0n,
  site: 0x1000n,
  stub: 0x2000n,
  runtime: 0x3000n,
  program: 0x4000n,
  behind: 0x2_0000n,
} as const;
const SHAPE = { contextCount: 2, consumerCapacity: 4, ringBytes: 256 << 10 } as const;

export interface Bench {
  /** Of the site. */
  readonly site: bigint;
  /** Holds the site and all that it runs. */
  readonly code: Region;
  /** Calls the site with a state, or code that calls it. @returns the state behind it. */
  run(state: readonly bigint[], goal?: bigint): bigint[];
  /** The fields of the records since the last call of it, slot by slot. */
  drain(): bigint[][];
  /** The events since the last call of it or of `drain`. */
  events(): TraceEvent[];
  readonly reader: SegmentReader;
  /** The session's memory. */
  readonly segment: Region;
  /** The page whose first word says whether the session lives. */
  readonly liveness: Region;
}

/** Of no meaning here. */
const CLOCK = new Clock(
  { ticks: 0n, nanoseconds: 0n },
  { ticks: 1n << 40n, nanoseconds: 1n << 40n },
);

let used = 0n;

/** Where the site is in a file that is not there. */
export const SITE_OFFSET = 0x340n;

/**
 * A site in our own process, whose stub runs one program on memory of a session's layout.
 * @param behind runs at each hit after it, as consumer 2; its events come out of `events`, not of `drain`
 */
export function makeBench(
  program: Program,
  threadPointer: 'memory' | 'register',
  clock: EventClock = 'counter',
  behind?: Program,
): Bench {
  const base = Place.code + used;
  const memoryAt = Place.memory + used;
  used += 1n << 24n;
  const layout = layoutSegment(SHAPE);
  const code = mapRegion(base, 1 << 18);
  const segment = mapRegion(memoryAt, layout.totalBytes);
  const rest = mapRegion(memoryAt + (1n << 23n), CACHE_BYTES + 4096);
  const at = (place: bigint) => address(base + place);
  const session = {
    segment: address(segment.address),
    liveness: address(rest.address),
    cache: address(rest.address + 4096n),
    runtime: at(At.runtime),
  };
  const buffer = segment.bytes.buffer;
  formatSegment(buffer, SHAPE);
  const record = layoutOf(program);
  const stub = assembleStub({
    origin: at(At.stub),
    redZone: RED_ZONE_BYTES,
    displace: () => ({ bytes: new Uint8Array(), map: [] }),
    back: at(At.site + 5n),
  });
  const compile = (one: Program, consumer: number, origin: bigint, next: bigint) =>
    compileProgram({
      program: one,
      record: layoutOf(one),
      session,
      segment: layout,
      features: { rdpid: false, clock, threadPointer },
      origin: at(origin),
      site: at(At.site),
      fileOffset: SITE_OFFSET,
      redZone: RED_ZONE_BYTES,
      consumer,
      next: address(next),
    });
  const put = (place: bigint, bytes: Uint8Array): void => code.bytes.set(bytes, Number(place));
  put(At.harness, assembleHarness(base + At.harness));
  put(At.site, new Assembler(at(At.site)).jmp(at(At.stub), 'near').ret().finish());
  put(At.stub, stub.bytes);
  put(At.runtime, emitRuntime(at(At.runtime), session, layout));
  const next = behind === undefined ? stub.epilogue : at(At.behind);
  put(At.program, compile(program, 1, At.program, next).bytes);
  if (behind !== undefined) put(At.behind, compile(behind, 2, At.behind, stub.epilogue).bytes);
  const view = new DataView(code.bytes.buffer, code.bytes.byteOffset, code.bytes.byteLength);
  view.setBigUint64(Number(stub.list - base), base + At.program, true);
  const table = new DescriptorTable();
  table.set(1, { name: 'group:event', layout: record, address: base + At.site });
  if (behind !== undefined) {
    table.set(2, { name: 'group:behind', layout: layoutOf(behind), address: base + At.site });
  }
  const reader = new SegmentReader({ part: partsOf(buffer), shape: SHAPE, table });
  const stateBytes = Buffer.alloc(STATE_WORDS * 8);
  const state = mapRegion(memoryAt + (1n << 23n) + (1n << 20n), 4096);
  const merger = new EventMerger({ clock: CLOCK, now: () => 0n });
  merger.add(reader);
  return {
    reader,
    segment,
    liveness: rest,
    site: base + At.site,
    code,
    events: () => Array.from(merger.flush(), (event) => event.toEvent()),
    run(values, goal = base + At.site) {
      values.forEach((value, index) => stateBytes.writeBigUInt64LE(value, index * 8));
      state.bytes.set(stateBytes);
      callCode(base + At.harness, goal, state.address);
      return values.map((_, index) => Buffer.from(state.bytes).readBigUInt64LE(index * 8));
    },
    drain() {
      const found: bigint[][] = [];
      reader.drain((context, index) => {
        const bytes = Buffer.from(context.ring.bytes);
        for (let entry = 0; entry < index.count; entry++) {
          const start = index.offset[entry] ?? 0;
          found.push(record.fields.map((field) => bytes.readBigUInt64LE(start + field.offset)));
        }
      }, 0);
      return found;
    },
  };
}
