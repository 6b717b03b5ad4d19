/** Batches of calls by which a target makes or drops memory for us, undone if one of them fails. */

import { closeSync, openSync } from 'node:fs';

import type { Address } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import type { BlobPlace } from '../../process/blob-place.ts';
import { largestBlob, type RemoteCall } from '../../process/blob.ts';
import type { MemoryMapping } from '../../process/maps.ts';
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

/** Bytes of the longest blob: places for one are chosen by it. */
export const BLOB_BYTES = 1024;
/** Calls with two arguments, of which a blob of {@link BLOB_BYTES} holds so many in any case. */
const CALLS_AT_ONCE = 10;

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
  const calls = areas.map((area) => ({
    number: Call.munmap,
    arguments: [area.address, BigInt(area.bytes)],
  }));
  runAll(stopped, place, calls);
}

/** Closes descriptors of the target. */
export function closeFiles(
  stopped: StoppedProcess,
  place: BlobPlace,
  descriptors: readonly number[],
): void {
  const calls = descriptors.map((descriptor) => ({
    number: Call.close,
    arguments: [BigInt(descriptor)],
  }));
  runAll(stopped, place, calls);
}

/** Makes calls that nothing has to be taken back of, as many at a time as a blob holds. */
function runAll(stopped: StoppedProcess, place: BlobPlace, calls: readonly RemoteCall[]): void {
  using batch = RemoteBatch.begin(stopped, place);
  for (let first = 0; first < calls.length; first += CALLS_AT_ONCE) {
    const some = calls.slice(first, first + CALLS_AT_ONCE);
    batch.run(some, (index, result) => {
      if (result < 0n) throw failedCall(stopped, some[index], result);
    });
  }
}

/** What a target is asked to make, to be unmapped if the batch fails. */
interface MappedArea extends Area {
  /** The call that maps it. */
  readonly call: number;
}

/**
 * Calls that make memory for us, put together before the target is stopped: no address depends on an
 * answer, and what is done on our side with a new file is told when the batch gets there.
 */
export class Injection {
  readonly #calls: RemoteCall[] = [];
  readonly #areas: MappedArea[] = [];
  readonly #files = new Map<number, (fd: number) => void>();
  readonly #undo: (() => void)[] = [];

  /** How many bytes its blob takes at most. */
  get blobBytes(): number {
    return largestBlob(this.#calls);
  }

  /**
   * A file in memory. `onFile` is given a descriptor of ours for it, ours only until it returns.
   * @returns its number, for {@link map} and {@link close}
   */
  file(name: string, onFile: (fd: number) => void): number {
    const flags = BigInt(MemoryFileFlag.closeOnExec | MemoryFileFlag.allowSealing);
    const index = this.#add({
      number: Call.memfdCreate,
      arguments: [{ data: Buffer.from(`${name}\0`) }, flags],
    });
    this.#files.set(index, onFile);
    return index;
  }

  /** Maps a file, or anonymous memory, exactly at a free place. */
  map(area: Area, protection: bigint, flags: bigint, file?: number, offset = 0): void {
    const call = this.#add({
      number: Call.mmap,
      arguments: [
        area.address,
        BigInt(area.bytes),
        protection,
        flags | MAP_FIXED_NOREPLACE,
        file === undefined ? 0xffff_ffff_ffff_ffffn : { result: file },
        BigInt(offset),
      ],
    });
    this.#areas.push({ ...area, call });
  }

  /** madvise(2). */
  advise(area: Area, advice: bigint): void {
    this.#add({ number: Call.madvise, arguments: [area.address, BigInt(area.bytes), advice] });
  }

  /** Closes the target's descriptor of a file. */
  close(file: number): void {
    this.#add({ number: Call.close, arguments: [{ result: file }] });
  }

  /** Called on our side when the batch fails. */
  onFailure(undo: () => void): void {
    this.#undo.push(undo);
  }

  /**
   * Makes the calls. If one fails, what the others had made is taken back.
   * @throws TraplineError `system` naming the call, and as {@link RemoteBatch.run} does.
   */
  run(stopped: StoppedProcess, place: BlobPlace): void {
    using batch = RemoteBatch.begin(stopped, place);
    const results: bigint[] = [];
    try {
      batch.run(this.#calls, (index, result) => {
        results.push(result);
        if (result < 0n) throw failedCall(stopped, this.#calls[index], result);
        const onFile = this.#files.get(index);
        if (onFile !== undefined) openFile(batch, result, onFile);
      });
    } catch (error) {
      for (const undo of this.#undo) undo();
      const back = this.#callsBack(results);
      if (back.length > 0) batch.run(back);
      throw error;
    }
  }

  #add(call: RemoteCall): number {
    return this.#calls.push(call) - 1;
  }

  /** What takes back the calls before a failed one. */
  #callsBack(results: readonly bigint[]): RemoteCall[] {
    const succeeded = (index: number): boolean => (results[index] ?? -1n) >= 0n;
    const back: RemoteCall[] = this.#areas
      .filter(({ call }) => succeeded(call))
      .map((area) => ({ number: Call.munmap, arguments: [area.address, BigInt(area.bytes)] }));
    for (const file of this.#files.keys()) {
      if (!succeeded(file)) continue;
      const isClosed = this.#calls.some(
        ({ number, arguments: [first] }, at) =>
          number === Call.close &&
          typeof first === 'object' &&
          'result' in first &&
          first.result === file &&
          succeeded(at),
      );
      if (!isClosed) back.push({ number: Call.close, arguments: [results[file] ?? -1n] });
    }
    return back;
  }
}

/** Opens what the target has just made, by way of its own descriptor. */
function openFile(batch: RemoteBatch, descriptor: bigint, onFile: (fd: number) => void): void {
  const { pid, tid } = batch.task;
  const fd = openSync(`/proc/${pid}/task/${tid}/fd/${descriptor}`, 'r+');
  try {
    onFile(fd);
  } finally {
    closeSync(fd);
  }
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

/**
 * Mappings as areas, those that touch each other as one, which one call unmaps. An area comes where the last
 * of its parts came.
 */
export function joinAreas(mappings: readonly MemoryMapping[]): Area[] {
  const joined: { start: Address; end: Address; order: number }[] = [];
  const parts = mappings.map(({ start, end }, order) => ({ start, end, order }));
  for (const part of parts.sort((one, other) => (one.start < other.start ? -1 : 1))) {
    const before = joined.at(-1);
    if (before === undefined || before.end !== part.start) {
      joined.push(part);
      continue;
    }
    before.end = part.end;
    before.order = Math.max(before.order, part.order);
  }
  return joined
    .sort((one, other) => one.order - other.order)
    .map(({ start, end }) => ({ address: start, bytes: Number(end - start) }));
}
