/** Memory mapped into our own process, and views of it for JavaScript. */

import koffi from 'koffi';

import { address, type Address } from '../base/brand.ts';
import { bind, check, systemError, type Pointer } from './call.ts';

export const Protection = { none: 0, read: 1, write: 2, execute: 4 } as const;

const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const PAGE_BYTES = 4096;
const FAILED = 0xffff_ffff_ffff_ffffn;

const mmap: (
  at: Pointer,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => bigint | null = bind(
  'void *mmap(void *at, size_t length, int protection, int flags, int fd, int64_t offset)',
);
const munmap: (at: Pointer, length: number) => number = bind('int munmap(void *at, size_t length)');
const mprotect: (at: Pointer, length: number, protection: number) => number = bind(
  'int mprotect(void *at, size_t length, int protection)',
);

/** What {@link mapMemory} maps. */
export interface MapOptions {
  /** Bits of {@link Protection}; read and write when absent. */
  readonly protection?: number;
  /** The file to map shared, from its start; private anonymous memory when absent. */
  readonly fd?: number;
  /** The file's memory is ours alone: what is written there is not in the file. */
  readonly isPrivate?: boolean;
  /** Map exactly here, over what is there. */
  readonly at?: Address;
}

/**
 * Memory that we mapped. Whoever holds it must dispose it, after the last use of every view: a view
 * outlives its memory unnoticed, and touching it then is a SIGSEGV.
 */
export class Mapping implements Disposable {
  readonly address: Address;
  readonly length: number;
  #open = true;
  #view: ArrayBuffer | undefined;
  #firstPage: ArrayBuffer | undefined;

  constructor(at: Address, length: number) {
    this.address = at;
    this.length = length;
  }

  /**
   * The memory, for JavaScript. Where it may not be read, touching it is a SIGSEGV. Made once: for a large
   * one V8 collects garbage, which takes milliseconds.
   */
  get view(): ArrayBuffer {
    this.#view ??= viewMemory(this.address, this.length);
    return this.#view;
  }

  /** The first page alone, for who writes a header: of a view so small V8 takes no notice. */
  get firstPage(): ArrayBuffer {
    this.#firstPage ??= viewMemory(this.address, Math.min(this.length, PAGE_BYTES));
    return this.#firstPage;
  }

  protect(protection: number): void {
    check(mprotect(this.address, this.length, protection), 'change the protection of our memory');
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    check(munmap(this.address, this.length), 'unmap our memory');
  }
}

/** Maps memory into our process. @throws TraplineError when the kernel refuses. */
export function mapMemory(length: number, options: MapOptions = {}): Mapping {
  const flags =
    (options.fd === undefined ? MAP_ANONYMOUS : 0) |
    (options.fd === undefined || options.isPrivate === true ? MAP_PRIVATE : MAP_SHARED) |
    (options.at === undefined ? 0 : MAP_FIXED);
  const protection = options.protection ?? Protection.read | Protection.write;
  const at = mmap(options.at ?? null, length, protection, flags, options.fd ?? -1, 0);
  if (at === FAILED || at === null) throw systemError(`map ${length} bytes`);
  return new Mapping(address(at), length);
}

/** A view of memory that another thread of ours mapped and keeps mapped for as long as the view lives. */
export function viewMemory(at: Address, length: number): ArrayBuffer {
  return koffi.view(at, length);
}
