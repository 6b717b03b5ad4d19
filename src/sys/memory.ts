/** Another process's memory: `/proc/PID/mem` at 64-bit positions, and process_vm_readv(2). */

import { closeSync, openSync, readFileSync } from 'node:fs';

import { type Address, type Pid, type Tid } from '../base/brand.ts';
import { TraplineError, messageOf } from '../base/errors.ts';
import { addressOf, bind, errnoName, lastErrno, systemError, type Long } from './call.ts';

const pread64: (fd: number, bytes: Uint8Array, length: number, position: bigint) => Long = bind(
  'int64_t pread64(int fd, void *bytes, size_t length, int64_t position)',
);
const pwrite64: (fd: number, bytes: Uint8Array, length: number, position: bigint) => Long = bind(
  'int64_t pwrite64(int fd, void *bytes, size_t length, int64_t position)',
);
const processVmReadv: (
  pid: number,
  local: Uint8Array,
  localCount: number,
  remote: Uint8Array,
  remoteCount: number,
  flags: number,
) => Long = bind(
  'int64_t process_vm_readv(int pid, void *local, uint64_t localCount, void *remote, uint64_t remoteCount, uint64_t flags)',
);

/**
 * `/proc/PID/mem`, open. Unlike fs.writeSync, which loses the upper bits of a bigint position, it
 * reaches every address. The kernel lets a write through to read-only private memory.
 */
export class MemoryFile implements Disposable {
  readonly #fd: number;
  readonly #name: string;

  /**
   * @param task any live task of the address space; the file stays with the memory that it has now.
   * @throws TraplineError `not-permitted` or `no-process`.
   */
  constructor(task: Pid | Tid) {
    this.#name = `the memory of task ${task}`;
    try {
      this.#fd = openSync(`/proc/${task}/mem`, 'r+');
    } catch (error) {
      // Of a task that has given up its memory the kernel says so, too, to those without privilege.
      const denied = /^E(ACCES|PERM)/.test(messageOf(error)) && hasMemory(task);
      throw new TraplineError({
        code: denied ? 'not-permitted' : 'no-process',
        message: `cannot open ${this.#name}: ${messageOf(error)}`,
        cause: error,
      });
    }
  }

  /**
   * Reads into all of `into`.
   * @returns the bytes read: fewer where unreadable memory begins.
   * @throws TraplineError `no-process` when the process has ended.
   */
  read(from: Address, into: Uint8Array): number {
    let done = 0;
    while (done < into.byteLength) {
      const rest = into.subarray(done);
      const count = Number(pread64(this.#fd, rest, rest.byteLength, from + BigInt(done)));
      if (count > 0) done += count;
      else if (count === 0) throw this.#gone('read');
      else {
        const name = errnoName(lastErrno());
        if (name === 'EIO' || name === 'EFAULT' || name === 'EINVAL') break;
        if (name !== 'EINTR') throw systemError(`read ${this.#name}`);
      }
    }
    return done;
  }

  /**
   * Writes all of `bytes` in one call: within one page, one kernel copy that no death of ours cuts.
   * @throws TraplineError `no-process` when the process has ended, another when not everything was
   * written.
   */
  write(to: Address, bytes: Uint8Array): void {
    const count = Number(pwrite64(this.#fd, bytes, bytes.byteLength, to));
    if (count === bytes.byteLength) return;
    if (count === 0) throw this.#gone('write');
    if (count < 0) throw systemError(`write ${this.#name} at 0x${to.toString(16)}`);
    throw new TraplineError({
      code: 'system',
      message: `only ${count} of ${bytes.byteLength} bytes were written to ${this.#name}`,
    });
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  /** Nothing was done: there is no memory behind the file any more (fs/proc/base.c, mem_rw). */
  #gone(what: string): TraplineError {
    return new TraplineError({
      code: 'no-process',
      message: `cannot ${what} ${this.#name}: it has ended, or executes another program`,
    });
  }
}

/** A stretch of another process's memory, in bytes. */
export interface MemoryRange {
  readonly address: Address;
  readonly length: number;
}

/** The most ranges that one call takes (UIO_MAXIOV). */
export const MAX_RANGES = 1024;

/**
 * Reads several ranges of a process, one after another, into `into` by one process_vm_readv(2).
 * @returns the bytes read, from the first range on: fewer than asked when a range can't be read. 0
 * when the first can't.
 * @throws TraplineError `no-process`, `not-permitted`.
 */
export function readRanges(
  pid: Pid | Tid,
  ranges: readonly MemoryRange[],
  into: Uint8Array,
): number {
  const total = ranges.reduce((sum, range) => sum + range.length, 0);
  if (ranges.length > MAX_RANGES || total > into.byteLength) {
    throw new RangeError(`${ranges.length} ranges of ${total} bytes do not fit`);
  }
  if (total === 0) return 0;
  const local = Buffer.alloc(16);
  local.writeBigUInt64LE(addressOf(into), 0);
  local.writeBigUInt64LE(BigInt(total), 8);
  const remote = Buffer.alloc(16 * ranges.length);
  ranges.forEach((range, index) => {
    remote.writeBigUInt64LE(range.address, 16 * index);
    remote.writeBigUInt64LE(BigInt(range.length), 16 * index + 8);
  });
  const count = Number(processVmReadv(pid, local, 1, remote, ranges.length, 0));
  if (count >= 0) return count;
  if (errnoName(lastErrno()) === 'EFAULT') return 0;
  throw systemError(`read the memory of process ${pid}`);
}

/** Whether a task has memory still: the kernel shows its size (proc_pid_status(5)). */
export function hasMemory(task: Pid | Tid): boolean {
  try {
    return /^VmSize:/m.test(readFileSync(`/proc/${task}/status`, 'latin1'));
  } catch {
    return false; // gone altogether
  }
}
