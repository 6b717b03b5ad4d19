/** What the processor and the kernel let programs use. */

import { existsSync, readFileSync } from 'node:fs';

/** Features that stubs depend on. */
export type ProcessorFeature = 'fsgsbase' | 'rdpid';

/** HWCAP2_FSGSBASE (arch/x86/include/uapi/asm/hwcap2.h): the kernel has enabled the instructions. */
const HWCAP2_FSGSBASE = 2n;
const AT_HWCAP2 = 26n;

let known: ReadonlySet<ProcessorFeature> | undefined;

/** Whether a feature is there: by what the kernel tells every program, not by asking the processor. */
export function hasProcessorFeature(feature: ProcessorFeature): boolean {
  return (known ??= detect()).has(feature);
}

function detect(): ReadonlySet<ProcessorFeature> {
  const found = new Set<ProcessorFeature>();
  if (((auxiliaryValue(AT_HWCAP2) ?? 0n) & HWCAP2_FSGSBASE) !== 0n) found.add('fsgsbase');
  if (processorFlags().has('rdpid')) found.add('rdpid');
  return found;
}

/** The flags of the first processor in /proc/cpuinfo; none where there is no such file. */
export function processorFlags(): ReadonlySet<string> {
  const path = '/proc/cpuinfo';
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  const flags = /^flags\s*:(.*)$/m.exec(text)?.[1] ?? '';
  return new Set(flags.split(/\s+/).filter((flag) => flag !== ''));
}

/** A value of our auxiliary vector (getauxval(3)): pairs of words, ended by a zero pair. */
function auxiliaryValue(type: bigint): bigint | undefined {
  const bytes = readFileSync('/proc/self/auxv');
  for (let at = 0; at + 16 <= bytes.byteLength; at += 16) {
    if (bytes.readBigUInt64LE(at) === type) return bytes.readBigUInt64LE(at + 8);
  }
  return undefined;
}
