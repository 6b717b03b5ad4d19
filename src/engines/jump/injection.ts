/** Batches of calls by which a target makes or drops memory for us, undone if one of them fails. */

import { closeSync, openSync } from 'node:fs';

import type { Address } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import type { BlobPlace } from '../../process/blob-place.ts';
import type { RemoteCall } from '../../process/blob.ts';
import { RemoteBatch } from '../../process/remote.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { errnoName } from '../../sys/call.ts';
import { MemoryFileFlag } from '../../sys/memfd.ts';

/** Numbers of the calls that a target makes for us (arch/x86/entry/syscalls/syscall_64.tbl). */
export const Call = { close: 3, mmap: 9, munmap: 11, madvise: 28, memfdCreate: 319 } as const;
export const PROT_READ: bigint = 1n;
export const PROT_WRITE: bigint = 2n;
export const PROT_EXEC: bigint = 4n;
export const MAP_SHARED: bigint = 1n;
export const MAP_PRIVATE: bigint = 2n;
export const MAP_ANONYMOUS: bigint = 0x20n;
/** Fails with EEXIST where something is mapped already (Linux 4.17). */
const MAP_FIXED_NOREPLACE = 0x10_0000n;
export const MADV_WIPEONFORK: bigint = 18n;

/** A range of the target's address space. */
export interface Area {
  readonly address: Address;
  readonly bytes: number;
}

/** Unmaps areas of the target. */
export function unmapAreas(
  stopped: StoppedProcess,
  place: BlobPlace,
  areas: readonly Area[],
): void {
  for (let first = 0; first < areas.length; first += 10) {
    const calls = areas.slice(first, first + 10).map((area) => ({
      number: Call.munmap,
      arguments: [area.address, BigInt(area.bytes)],
    }));
    runBatch(stopped, place, calls, [], () => {});
  }
}

/** Closes descriptors of the target. */
export function closeFiles(
  stopped: StoppedProcess,
  place: BlobPlace,
  descriptors: readonly number[],
): void {
  for (let first = 0; first < descriptors.length; first += 10) {
    const calls = descriptors
      .slice(first, first + 10)
      .map((descriptor) => ({ number: Call.close, arguments: [BigInt(descriptor)] }));
    runBatch(stopped, place, calls, [], () => {});
  }
}

/** Makes a file in memory; its descriptor is told to `onFile`. */
export function createFile(name: string): RemoteCall {
  const flags = BigInt(MemoryFileFlag.closeOnExec | MemoryFileFlag.allowSealing);
  return {
    number: Call.memfdCreate,
    arguments: [{ data: Buffer.from(`${name}\0`) }, flags],
  };
}

/** Maps what an earlier call of the batch made, or anonymous memory, exactly at a free place. */
export function map(
  at: Address,
  bytes: number,
  protection: bigint,
  flags: bigint,
  file: number | undefined,
  offset = 0,
): RemoteCall {
  return {
    number: Call.mmap,
    arguments: [
      at,
      BigInt(bytes),
      protection,
      flags | MAP_FIXED_NOREPLACE,
      file === undefined ? 0xffff_ffff_ffff_ffffn : { result: file },
      BigInt(offset),
    ],
  };
}

/** What a batch maps, to be unmapped if it fails. */
export interface MappedRange extends Area {
  /** The call that maps it. */
  readonly call: number;
}

/**
 * Runs a batch. `onFile` is told each descriptor that the target has made, open on our side too.
 * If a call fails, what the batch had mapped is unmapped again.
 */
export function runBatch(
  stopped: StoppedProcess,
  place: BlobPlace,
  calls: readonly RemoteCall[],
  mapped: readonly MappedRange[],
  onFile: (index: number, fd: number) => void,
): void {
  using batch = RemoteBatch.begin(stopped, place);
  const results: bigint[] = [];
  try {
    batch.run(calls, (index, result) => {
      results.push(result);
      if (result < 0n) throw failedCall(stopped, calls[index], result);
      if (calls[index]?.number !== Call.memfdCreate) return;
      const path = `/proc/${batch.task.pid}/task/${batch.task.tid}/fd/${result}`;
      const fd = openSync(path, 'r+');
      try {
        onFile(index, fd);
      } finally {
        closeSync(fd);
      }
    });
  } catch (error) {
    undo(batch, calls, mapped, results);
    throw error;
  }
}

/** Takes back what the calls before a failed one have done. */
function undo(
  batch: RemoteBatch,
  calls: readonly RemoteCall[],
  mapped: readonly MappedRange[],
  results: readonly bigint[],
): void {
  const succeeded = (index: number): boolean => (results[index] ?? -1n) >= 0n;
  const back: RemoteCall[] = mapped
    .filter(({ call }) => succeeded(call))
    .map((area) => ({ number: Call.munmap, arguments: [area.address, BigInt(area.bytes)] }));
  calls.forEach((call, index) => {
    if (call.number !== Call.memfdCreate || !succeeded(index)) return;
    const isClosed = calls.some(
      ({ number, arguments: [first] }, at) =>
        number === Call.close &&
        typeof first === 'object' &&
        'result' in first &&
        first.result === index &&
        succeeded(at),
    );
    if (!isClosed) back.push({ number: Call.close, arguments: [results[index] ?? -1n] });
  });
  if (back.length > 0) batch.run(back);
}

function failedCall(
  stopped: StoppedProcess,
  call: RemoteCall | undefined,
  result: bigint,
): TraplineError {
  const names = new Map<number, string>(Object.entries(Call).map(([name, nr]) => [nr, name]));
  const name = names.get(call?.number ?? -1) ?? 'a system call';
  const errno = errnoName(Number(-result));
  return new TraplineError({
    code: 'system',
    errno,
    message: `process ${stopped.pid} could not prepare itself for probes: its ${name} failed with ${errno}`,
    hint:
      errno === 'ENOMEM'
        ? 'Its address space or memory is limited (ulimit -v, a cgroup): try a smaller --ring-budget.'
        : errno === 'EMFILE'
          ? 'It has no descriptor left (ulimit -n).'
          : 'See the errno in mmap(2), memfd_create(2).',
  });
}
