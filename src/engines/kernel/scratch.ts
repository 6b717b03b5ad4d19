/**
 * A file of ours that runs in our own process: functions that do nothing, with one instruction of each kind that
 * the kernel tells apart. A place of an event there costs a hit what the event's other places cost, and can be
 * timed. In slots of 16 bytes: one of each kind that is never probed, one of each that is, and then nops.
 */

import { writeSync } from 'node:fs';

import { address, fileOffset, type Address, type FileOffset } from '../../base/brand.ts';
import { DisposableStack } from '../../base/dispose.ts';
import { nanosecondsPerTick } from '../../sys/clock.ts';
import { runCode } from '../../sys/execute.ts';
import { mapMemory, Protection, type Mapping } from '../../sys/mapping.ts';
import { closeMemoryFile, createMemoryFile } from '../../sys/memfd.ts';
import { timedLoop } from '../../x64/timed-loop.ts';
import { SCRATCH_SITE } from './command.ts';
import type { NumberedPlace } from './definitions.ts';
import type { StandIn } from './instruction.ts';

/** An instruction of each kind, with what undoes it behind. */
const CODE: readonly (readonly [StandIn, string])[] = [
  ['nop', '90'],
  ['long-nop', '0f1f00'],
  ['patched-nop', '0f1f440000'],
  ['push', '5059'], // push %rax; pop %rcx
  ['stepped', '89c0'], // mov %eax,%eax
];
const RET = 0xc3;
const SLOT_BYTES = 16;
const SLOTS = 16_384;
const FILE_BYTES = SLOTS * SLOT_BYTES;
const LOOP_BYTES = 4096;

/**
 * Hits of one run, and runs. Where processors are busy a run is interrupted in its middle, for milliseconds: so runs are
 * short, and there are many.
 */
const HITS = 16;
const ROUNDS = 20;
/** Memory that every register points into the middle of: each of its words does so, too. */
const MEMORY_BYTES = 65_536;

/** One function of the file, as a place of an event. */
export interface ScratchPlace extends NumberedPlace {
  readonly kind: StandIn;
}

/** The file, mapped executable. Its owner disposes it, after the events that have places in it. */
export class ScratchFile implements Disposable {
  /** As the kernel is to look it up for us. */
  readonly #path: string;
  readonly #stack = new DisposableStack();
  readonly #code: Address;
  readonly #loop: Mapping;
  readonly #memory: Mapping;
  readonly #bare = new Map<StandIn, number>();
  #nextSlot = CODE.length * 2;

  /** @throws TraplineError `system`. */
  constructor() {
    const fd = createMemoryFile('trapline-scratch', FILE_BYTES);
    this.#stack.defer(() => closeMemoryFile(fd));
    this.#path = `/proc/self/fd/${fd}`;
    writeSync(fd, contents());
    // Side by side, so that a loop reaches the functions; unmapped by the first one, all of it.
    const whole = this.#stack.use(mapMemory(FILE_BYTES + LOOP_BYTES));
    this.#code = whole.address;
    this.#loop = mapMemory(LOOP_BYTES, { at: address(this.#code + BigInt(FILE_BYTES)) });
    // Private: the kernel probes no other mappings (valid_vma, kernel/events/uprobes.c).
    const protection = Protection.read | Protection.execute;
    mapMemory(FILE_BYTES, { fd, protection, isPrivate: true, at: this.#code });
    this.#memory = this.#stack.use(mapMemory(MEMORY_BYTES));
    new BigUint64Array(this.#memory.view).fill(this.#middle);
  }

  /** A nop that nobody else has; undefined when all are taken. */
  takeNop(): ScratchPlace | undefined {
    return this.#nextSlot < SLOTS ? this.#placeAt(this.#nextSlot++, 'nop') : undefined;
  }

  /** The only probed place of its kind. */
  placeOf(kind: StandIn): ScratchPlace {
    return this.#placeAt(CODE.length + indexOf(kind), kind);
  }

  /** Nanoseconds that what is on at a place adds to a call of it. */
  measure({ kind, offset }: ScratchPlace): number {
    const bare = this.#bare.get(kind) ?? this.#time(offsetOf(indexOf(kind)));
    this.#bare.set(kind, bare);
    return Math.max(0, this.#time(offset) - bare);
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }

  get #middle(): Address {
    return address(this.#memory.address + BigInt(MEMORY_BYTES / 2));
  }

  #placeAt(slot: number, kind: StandIn): ScratchPlace {
    const offset = offsetOf(slot);
    return { kind, path: this.#path, offset, reference: undefined, site: SCRATCH_SITE };
  }

  #time(offset: FileOffset): number {
    const { address: loop, view } = this.#loop;
    this.#loop.protect(Protection.read | Protection.write);
    new Uint8Array(view).set(timedLoop(loop, address(this.#code + BigInt(offset)), HITS));
    this.#loop.protect(Protection.read | Protection.execute);
    const result = new DataView(this.#memory.view, MEMORY_BYTES / 2);
    const run = (): number => {
      runCode(loop, this.#middle);
      const ticks = Number(result.getBigUint64(0, true));
      result.setBigUint64(0, this.#middle, true);
      return ticks;
    };
    // The first one is not like the others: the kernel patches its nop then, and memory is cold.
    run();
    return (leastOf(run, ROUNDS) / HITS) * nanosecondsPerTick();
  }
}

/** What a run takes that nobody interrupts: most may be interrupted, never all. */
export function leastOf(run: () => number, rounds: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < rounds; round++) least = Math.min(least, run());
  return least;
}

function indexOf(kind: StandIn): number {
  return CODE.findIndex(([name]) => name === kind);
}

function offsetOf(slot: number): FileOffset {
  return fileOffset(slot * SLOT_BYTES);
}

function contents(): Buffer {
  const codes = CODE.map(([, code]) => Buffer.from(code, 'hex'));
  const [nop = Buffer.alloc(0)] = codes;
  const bytes = Buffer.alloc(FILE_BYTES, Buffer.concat([nop, Buffer.from([RET])], SLOT_BYTES));
  [...codes, ...codes].forEach((code, slot) => {
    const at = slot * SLOT_BYTES;
    code.copy(bytes, at);
    bytes[at + code.length] = RET;
  });
  return bytes;
}
