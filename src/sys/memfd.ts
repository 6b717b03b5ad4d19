/** Files in memory: memfd_create(2), seals, and how /proc/PID/maps names a descriptor's inode. */

import { fstatSync, ftruncateSync } from 'node:fs';

import { addressOf, check, systemCall } from './call.ts';
import { close, fcntl } from './descriptor.ts';

const SYS_MEMFD_CREATE = 319;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;

/** Flags of memfd_create(2). */
export const MemoryFileFlag = { closeOnExec: 1, allowSealing: 2, noExecute: 8 } as const;

/** Seals of fcntl(2). */
export const Seal = { seal: 1, shrink: 2, grow: 4, write: 8, futureWrite: 16 } as const;

/**
 * Creates a file in memory in our own process.
 * @returns its descriptor, for {@link closeMemoryFile}.
 */
export function createMemoryFile(name: string, bytes: number): number {
  const path = Buffer.from(`${name}\0`);
  const flags = MemoryFileFlag.closeOnExec | MemoryFileFlag.allowSealing;
  const fd = check(
    systemCall(SYS_MEMFD_CREATE, addressOf(path), flags, 0, 0, 0, 0),
    `create the memory file ${name}`,
  );
  ftruncateSync(fd, bytes);
  return fd;
}

/** Closes a file in memory. Node does not know of it, and a Worker would warn if it were to close it. */
export function closeMemoryFile(fd: number): void {
  check(close(fd), 'close a memory file');
}

/** Adds bits of {@link Seal} to a file in memory. */
export function addSeals(fd: number, seals: number): void {
  check(fcntl(fd, F_ADD_SEALS, seals), 'seal a memory file');
}

/** The seals of a file in memory, bits of {@link Seal}. */
export function getSeals(fd: number): number {
  return check(fcntl(fd, F_GET_SEALS, 0), 'read the seals of a memory file');
}

/** What tells a file from every other on this machine, as fstat(2) says it. */
export interface FileIdentity {
  readonly major: number;
  readonly minor: number;
  readonly inode: bigint;
  readonly bytes: number;
}

/** The identity of an open file. On overlayfs its device is not the one that maps show. */
export function identifyFile(fd: number): FileIdentity {
  const { dev, ino, size } = fstatSync(fd, { bigint: true });
  return { ...splitDevice(dev), inode: ino, bytes: Number(size) };
}

/** Takes a dev_t apart (sysmacros.h, gnu_dev_major and gnu_dev_minor). */
export function splitDevice(device: bigint): { readonly major: number; readonly minor: number } {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xffff_f000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffff_ff00n);
  return { major: Number(major), minor: Number(minor) };
}
