/** Whether a file that we can open is the one that a process maps. */

import { closeSync, openSync, statSync } from 'node:fs';

import { debugLog } from '../../base/debug.ts';
import { messageOf } from '../../base/errors.ts';
import { findMapping, readMaps, type MemoryMapping } from '../../process/maps.ts';
import { mapMemory, Protection } from '../../sys/mapping.ts';
import { identifyFile } from '../../sys/memfd.ts';
import { ownPid } from '../../sys/signals.ts';

const log = debugLog('session');

/** Whether a path leads us to the file behind a mapping. */
export function leadsTo(path: string, mapping: MemoryMapping): boolean {
  try {
    // Asked first: opening something else than a file could wait for ever, or do something.
    if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return false;
    const fd = openSync(path, 'r');
    try {
      return isSameFile(fd, mapping);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    log('cannot open %s: %s', path, messageOf(error));
    return false; // not there for us
  }
}

/**
 * Whether an open file is the one behind a mapping. On overlayfs stat gives another device than
 * maps: then the file is mapped by ourselves, and our own maps tell.
 */
export function isSameFile(fd: number, mapping: MemoryMapping): boolean {
  const { major, minor, inode, bytes } = identifyFile(fd);
  if (inode === mapping.inode && `${hexadecimal(major)}:${hexadecimal(minor)}` === mapping.device) {
    return true;
  }
  if (bytes === 0) return false;
  using probe = mapMemory(1, { fd, protection: Protection.read });
  const own = findMapping(readMaps(ownPid()), probe.address);
  return own?.inode === mapping.inode && own.device === mapping.device;
}

/** As /proc/PID/maps writes the parts of a device number. */
function hexadecimal(value: number): string {
  return value.toString(16).padStart(2, '0');
}
