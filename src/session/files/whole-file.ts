/** A file without a process: as if it were mapped, so that what is said of it is resolved in the same way. */

import { closeSync, constants, openSync, statSync, type Stats } from 'node:fs';

import { address, type Address, type Pid } from '../../base/brand.ts';
import { messageOf, TraplineError } from '../../base/errors.ts';
import { pageDown } from '../../base/page.ts';
import { asMapping, findMapping, readMaps, type MemoryMapping } from '../../process/maps.ts';
import { mapMemory, Protection } from '../../sys/mapping.ts';
import { identifyFile } from '../../sys/memfd.ts';
import { ownPid } from '../../sys/signals.ts';
import type { FileCache } from './files.ts';

/**
 * The mappings that a process would have that loaded a file where its own addresses say.
 * @param path for us
 * @param pid a process that sees the file
 * @throws TraplineError `no-file`, `bad-elf`, `unsupported`.
 */
export function mappingsOf(path: string, files: FileCache, pid: Pid = ownPid()): MemoryMapping[] {
  const first = identify(path);
  const { elf } = files.open(pid, first);
  return elf.executableSegments().map((segment) => ({
    ...first,
    executable: true,
    // As loaders map it: ours is a mapping to look at it.
    shared: false,
    start: address(segment.address),
    end: address(segment.address + BigInt(segment.fileSize)),
    offset: BigInt(segment.fileOffset),
  }));
}

/** Without address space randomization (arch/x86/include/asm/elf.h, ELF_ET_DYN_BASE), as gdb shows programs. */
const PROGRAM_BASE = 0x5555_5555_4000n;
/** The same for a library, near the top of what mmap takes. */
const LIBRARY_BASE = 0x7fff_f7a0_0000n;

/** A file as a process might have it that does not exist. */
export interface ModelOfFile {
  readonly maps: readonly MemoryMapping[];
  /** What is added to the file's own addresses. */
  readonly base: Address;
}

/**
 * The mappings of a file, all parts of it, where a process might have them.
 * @throws TraplineError `no-file`, `bad-elf`, `unsupported`.
 */
export function modelOf(path: string, files: FileCache): ModelOfFile {
  const code = mappingsOf(path, files);
  const [first] = code;
  if (first === undefined) return { maps: [], base: address(0) };
  const { elf } = files.open(ownPid(), first);
  const base = elf.type === 'fixed' ? 0n : elf.liesAmongLibraries ? LIBRARY_BASE : PROGRAM_BASE;
  const shifted = code.map((one) => {
    return { ...one, start: address(one.start + base), end: address(one.end + base) };
  });
  const others = elf.loads.segments
    .filter(({ executable, memorySize }) => !executable && memorySize > 0)
    .map(({ address: at, memorySize }) => {
      const start = pageDown(base + BigInt(at));
      return asMapping(address(start), Number(base + BigInt(at + memorySize) - start));
    });
  const maps = [...shifted, ...others].sort((one, other) => (one.start < other.start ? -1 : 1));
  return { maps, base: address(base) };
}

/** Device and inode as maps print them: on overlayfs only a mapping tells. */
function identify(path: string): MemoryMapping {
  const fd = open(path);
  try {
    if (identifyFile(fd).bytes === 0) throw unfit(path, 'it is empty');
    using probe = mapMemory(1, { fd, protection: Protection.read });
    const mapping = findMapping(readMaps(ownPid()), probe.address);
    if (mapping === undefined) throw unfit(path, 'it can not be mapped');
    return mapping;
  } finally {
    closeSync(fd);
  }
}

function open(path: string): number {
  try {
    // Asked first: opening something else than a file could wait for ever, or do something.
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) throw refused('Failed to find the given file', `there is no ${path}`);
    if (!found.isFile()) {
      throw refused('Not a regular file', `${path} is ${kindOf(found)}`);
    }
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw error instanceof TraplineError ? error : unfit(path, messageOf(error));
  }
}

function kindOf(found: Stats): string {
  if (found.isDirectory()) return 'a folder';
  return found.isFIFO() ? 'a pipe' : found.isSocket() ? 'a socket' : 'a device';
}

/** In the kernel's words, and what they say of this file. */
function refused(message: string, hint: string): TraplineError {
  return new TraplineError({ code: 'no-file', message, hint });
}

function unfit(path: string, why: string): TraplineError {
  return new TraplineError({ code: 'no-file', message: `${path} can't be probed: ${why}` });
}
