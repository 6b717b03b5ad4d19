/** A file without a process: as if it were mapped, so that what is said of it is resolved in the same way. */

import { closeSync, constants, openSync } from 'node:fs';

import { address } from '../base/brand.ts';
import { messageOf, TraplineError } from '../base/errors.ts';
import { findMapping, readMaps, type MemoryMapping } from '../process/maps.ts';
import { mapMemory, Protection } from '../sys/mapping.ts';
import { identifyFile } from '../sys/memfd.ts';
import { ownPid, type FileCache } from './files.ts';

/**
 * The mappings that a process would have that loaded a file where its own addresses say.
 * @throws TraplineError `no-file`, `bad-elf`, `unsupported`.
 */
export function mappingsOf(path: string, files: FileCache): MemoryMapping[] {
  const first = identify(path);
  const { elf } = files.open(ownPid(), first);
  return elf.executableSegments().map((segment) => ({
    ...first,
    executable: true,
    start: address(segment.address),
    end: address(segment.address + BigInt(segment.fileSize)),
    offset: BigInt(segment.fileOffset),
  }));
}

/** Device and inode as maps print them: on overlayfs only a mapping tells. */
function identify(path: string): MemoryMapping {
  const fd = open(path);
  try {
    if (identifyFile(fd).bytes === 0) throw notThere(path, 'it is empty');
    using probe = mapMemory(1, { fd, protection: Protection.read });
    const mapping = findMapping(readMaps(ownPid()), probe.address);
    if (mapping === undefined) throw notThere(path, 'it can not be mapped');
    return mapping;
  } finally {
    closeSync(fd);
  }
}

function open(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw notThere(path, messageOf(error));
  }
}

function notThere(path: string, why: string): TraplineError {
  return new TraplineError({ code: 'no-file', message: `${path} can't be probed: ${why}` });
}
