/**
 * A session's own consumer in each target: where the dynamic linker says that its list of libraries has changed. The
 * task waits there until what it has loaded is probed: before any of its code runs, in glibc its IFUNC resolvers, in musl
 * its initialisers.
 */

import { readFileSync } from 'node:fs';

import { address, type Address, type Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import type { ConsumerRequest } from '../../engines/jump/prepare.ts';
import type { Program } from '../../probe/program.ts';
import { OWN_PROBE } from '../../process/control-rows.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import { linkerHook, type LinkerHook } from '../../symbols/linker-hook.ts';
import { isFile, type FileCache, type MappedFile } from '../files/files.ts';

/** Types of /proc/PID/auxv (getauxval(3)): where the dynamic linker is, and where the program begins. */
const AT_BASE = 7n;
const AT_ENTRY = 9n;

/**
 * What a process is asked for, to hear of its libraries.
 * @param consumer the event id, which no event ever has
 * @returns why it can't be, for people, if so.
 */
export function hookRequest(
  pid: Pid,
  maps: readonly MemoryMapping[],
  files: FileCache,
  consumer: number,
): ConsumerRequest | string {
  try {
    const linker = findLinker(pid, maps, files);
    return linker === undefined
      ? 'it has no dynamic linker'
      : requestAt(maps, linker.file, linker.hook, consumer);
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    return error.message;
  }
}

function requestAt(
  maps: readonly MemoryMapping[],
  file: MappedFile,
  { offset, state }: LinkerHook,
  consumer: number,
): ConsumerRequest | string {
  const at = file.addressIn(maps, offset);
  const [plan] = file.planner.plan([offset]);
  if (at === undefined || plan === undefined) return 'its dynamic linker is not mapped executable';
  if (plan.kind === 'refused') return `its dynamic linker can't be probed: ${plan.reason}`;
  // Loaded at every hit: it has to be the linker's own data, which is there as long as it is.
  const isData = state !== undefined && isWritable(maps, at + state);
  const program: Program = {
    arguments: [],
    filter: undefined,
    action: 'announce',
    ...(isData ? { passesWhile: state } : {}),
  };
  const known = { plan, address: at, file: file.identity, counter: undefined };
  return { ...known, program, probe: OWN_PROBE, consumer };
}

function isWritable(maps: readonly MemoryMapping[], at: bigint): boolean {
  const mapping = at > 0n ? findMapping(maps, address(at)) : undefined;
  return mapping !== undefined && mapping.writable && !mapping.shared;
}

/** The dynamic linker, which the kernel has told the process; or the program itself, if it is one. */
function findLinker(
  pid: Pid,
  maps: readonly MemoryMapping[],
  files: FileCache,
): { readonly file: MappedFile; readonly hook: LinkerHook } | undefined {
  const values = readAuxiliary(pid);
  for (const type of [AT_BASE, AT_ENTRY]) {
    const value = values.get(type) ?? 0n;
    const mapping = value === 0n ? undefined : findMapping(maps, asAddress(value));
    if (mapping === undefined || !isFile(mapping)) continue;
    const file = files.open(pid, mapping);
    const hook = linkerHook(file.elf);
    if (hook !== undefined) return { file, hook };
  }
  return undefined;
}

/** The target's stack holds it: whatever 64 bits it holds may come. */
function asAddress(value: bigint): Address {
  return address(BigInt.asUintN(47, value));
}

function readAuxiliary(pid: Pid): ReadonlyMap<bigint, bigint> {
  const values = new Map<bigint, bigint>();
  let bytes: Buffer;
  try {
    bytes = readFileSync(`/proc/${pid}/auxv`);
  } catch {
    return values; // ended, or not for us
  }
  for (let at = 0; at + 16 <= bytes.byteLength; at += 16) {
    values.set(bytes.readBigUInt64LE(at), bytes.readBigUInt64LE(at + 8));
  }
  return values;
}
