/** CLOCK_MONOTONIC, and pairs of it with the time stamp counter. */

import { readFileSync } from 'node:fs';

import koffi from 'koffi';

import type { Pid } from '../base/brand.ts';
import { bind, check, type Pointer } from './call.ts';
import { mapMemory, Protection, type Mapping } from './mapping.ts';
import { processorFlags } from './processor.ts';

const CLOCK_MONOTONIC = 1;

const clockGettime: (clock: number, time: Uint8Array) => number = bind(
  'int clock_gettime(int clock, void *time)',
  () => false,
);

/** CLOCK_MONOTONIC in nanoseconds. */
export function monotonicNanoseconds(): bigint {
  const time = Buffer.alloc(16);
  check(clockGettime(CLOCK_MONOTONIC, time), 'read the clock');
  return time.readBigInt64LE(0) * 1_000_000_000n + time.readBigInt64LE(8);
}

/**
 * Processor time that a process has used, all its tasks and those that ended included, in nanoseconds.
 * By the clock that MAKE_PROCESS_CPUCLOCK names (kernel/time/posix-cpu-timers.c): far finer than the
 * clock ticks of /proc/PID/stat, and anybody may read it.
 * @returns undefined when the process is gone; a zombie still has its time.
 */
export function processorNanoseconds(pid: Pid): bigint | undefined {
  const CPUCLOCK_SCHED = 2;
  const time = Buffer.alloc(16);
  if (clockGettime((~pid << 3) | CPUCLOCK_SCHED, time) !== 0) return undefined;
  return time.readBigInt64LE(0) * 1_000_000_000n + time.readBigInt64LE(8);
}

/**
 * What stamps events: the time stamp counter, or CLOCK_MONOTONIC by a system call, some 100 ns a hit, where
 * the counter does not run evenly, or not alike on all processors.
 */
export type EventClock = 'counter' | 'system';

/**
 * The clock that a machine needs.
 * @param source the kernel's `current_clocksource`: it takes the counter only when it has proved good
 * (arch/x86/kernel/tsc.c); a hypervisor's own clock is that counter, scaled
 * @param flags of `/proc/cpuinfo`
 */
export function chooseEventClock(
  source: string | undefined,
  flags: ReadonlySet<string>,
): EventClock {
  if (!flags.has('constant_tsc')) return 'system';
  if (source === 'tsc') return flags.has('nonstop_tsc') ? 'counter' : 'system';
  return source === 'kvm-clock' || source?.startsWith('hyperv') === true ? 'counter' : 'system';
}

const CLOCK_SOURCE = '/sys/devices/system/clocksource/clocksource0/current_clocksource';

let chosen: EventClock | undefined;

/** The clock of this machine, asked once. The tests set TRAPLINE_TEST_CLOCK=system to have the other. */
export function eventClock(): EventClock {
  chosen ??=
    process.env['TRAPLINE_TEST_CLOCK'] === 'system'
      ? 'system'
      : chooseEventClock(currentClockSource(), processorFlags());
  return chosen;
}

/** The kernel's clock source, undefined where it does not say. */
export function currentClockSource(): string | undefined {
  try {
    return readFileSync(CLOCK_SOURCE, 'utf8').trim();
  } catch {
    return undefined; // no sysfs
  }
}

/** One instant on both clocks. */
export interface ClockPair {
  /** The time stamp counter halfway between its two readings. */
  readonly tsc: bigint;
  /** CLOCK_MONOTONIC, read between them. */
  readonly nanoseconds: bigint;
  /** How far `tsc` can be from the instant of `nanoseconds`, in ticks. */
  readonly uncertainty: bigint;
}

// void (u64 out[4]): out[0] = tsc, out[1..2] = clock_gettime(CLOCK_MONOTONIC), out[3] = tsc.
// lfence keeps rdtsc from running ahead of, or after, its neighbours (Intel SDM, RDTSC).
const readBothClocks = Buffer.from(
  [
    '4989f8', // mov r8, rdi
    '0faee80f31', // lfence; rdtsc
    '48c1e2204809d0', // shl rdx, 32; or rax, rdx
    '498900', // mov [r8], rax
    'bf01000000', // mov edi, CLOCK_MONOTONIC
    '498d7008', // lea rsi, [r8 + 8]
    'b8e40000000f05', // mov eax, clock_gettime; syscall
    '0faee80f31', // lfence; rdtsc
    '48c1e2204809d0', // shl rdx, 32; or rax, rdx
    '49894018c3', // mov [r8 + 24], rax; ret
  ].join(''),
  'hex',
);

let readClocks: ((out: Pointer) => void) | undefined;

function clockReader(): (out: Pointer) => void {
  if (readClocks !== undefined) return readClocks;
  // Never unmapped: it serves until the process ends.
  const code: Mapping = mapMemory(4096);
  new Uint8Array(code.view).set(readBothClocks);
  code.protect(Protection.read | Protection.execute);
  // Without a name: names are one table for all copies of a library in a process.
  const prototype = koffi.proto('void', ['void *']);
  readClocks = (out: Pointer): void => {
    koffi.call(code.address, prototype, out);
  };
  return readClocks;
}

/**
 * Reads both clocks `tries` times and returns the pair whose two readings of the time stamp counter
 * lie closest: an interrupt between them makes a pair worse, never wrong.
 */
export function readClockPair(tries = 8): ClockPair {
  const read = clockReader();
  const out = Buffer.alloc(32);
  let best: ClockPair | undefined;
  for (let left = Math.max(1, tries); left > 0; left--) {
    read(out);
    const before = out.readBigUInt64LE(0);
    const after = out.readBigUInt64LE(24);
    const uncertainty = (after - before + 1n) / 2n;
    if (best === undefined || uncertainty < best.uncertainty) {
      const nanoseconds = out.readBigInt64LE(8) * 1_000_000_000n + out.readBigInt64LE(16);
      best = { tsc: before + (after - before) / 2n, nanoseconds, uncertainty };
    }
  }
  if (best === undefined) throw new RangeError('no clock pair was read');
  return best;
}

let ticks: number | undefined;

/** Nanoseconds of one tick of the time stamp counter, by two readings some milliseconds apart; measured once. */
export function nanosecondsPerTick(): number {
  if (ticks !== undefined) return ticks;
  const first = readClockPair();
  let second = readClockPair();
  while (second.nanoseconds - first.nanoseconds < 2_000_000n) second = readClockPair();
  ticks = Number(second.nanoseconds - first.nanoseconds) / Number(second.tsc - first.tsc);
  return ticks;
}
