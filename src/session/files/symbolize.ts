/** What lies at addresses of a process, for people. */

import { fileOffset, hex, type Address, type Pid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import { mapsIfReadable } from '../../engines/jump/spaces.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import { ownPid } from '../../sys/signals.ts';
import { isFile, type FileCache } from './files.ts';

const log = debugLog('session');

/**
 * Names addresses as the kernel's `%pS` does: `malloc+0x10/0x1a2`.
 * @returns one for each address; undefined where no function is known there, or the process has ended and what it mapped
 * is not known.
 */
export function symbolize(
  pid: Pid,
  addresses: readonly Address[],
  files: FileCache,
): (string | undefined)[] {
  const now = mapsIfReadable(pid);
  const hasEnded = now.length === 0;
  const maps = hasEnded ? files.mappings.of(pid) : now;
  // Where it has ended its files are those that we can reach.
  return addresses.map((at) => nameAt(hasEnded ? ownPid() : pid, at, maps, files));
}

function nameAt(
  pid: Pid,
  at: Address,
  maps: readonly MemoryMapping[],
  files: FileCache,
): string | undefined {
  const mapping = findMapping(maps, at);
  if (mapping === undefined || !mapping.executable || !isFile(mapping)) return undefined;
  try {
    const file = files.open(pid, mapping);
    const offset = fileOffset(Number(at - mapping.start + mapping.offset));
    const symbol = file.symbols.at(offset);
    if (symbol === undefined) return undefined;
    return `${symbol.name}+${hex(offset - symbol.offset)}/${hex(symbol.size)}`;
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    log('no name for %s: %s', hex(at), error.message);
    return undefined; // the address itself is shown
  }
}
