/** Which implementation of an IFUNC was chosen: STT_GNU_IFUNC, whose symbol is a resolver's. */

import { address, fileOffset, type Address, type FileOffset, type Pid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import { MemoryReader } from '../../engines/jump/spaces.ts';
import { findMapping, readMaps, type MemoryMapping } from '../../process/maps.ts';
import { resolveOwnSymbol } from '../../sys/dlsym.ts';
import { ownPid } from '../../sys/signals.ts';
import { functionBounds } from '../../symbols/function-bounds.ts';
import { functionPointers } from '../../symbols/function-pointers.ts';
import type { FunctionSymbol } from '../../symbols/function-symbol.ts';
import { isFile, type FileCache, type MappedFile } from '../files/files.ts';

const log = debugLog('session');

/** A process as its files are looked at. */
export interface TargetView {
  readonly pid: Pid;
  readonly maps: readonly MemoryMapping[];
  readonly files: FileCache;
}

/**
 * Where the implementation begins that was chosen in a process. Its own dynamic linker's words tell, once it
 * has resolved the function; before that ours does, if we have loaded the very same file: resolvers decide
 * by the processor.
 * @returns undefined when neither knows.
 */
export function implementationOf(
  target: TargetView,
  file: MappedFile,
  symbol: FunctionSymbol,
): FileOffset | undefined {
  return chosenByTarget(target, file, symbol) ?? chosenByUs(file, symbol);
}

function chosenByTarget(
  { pid, maps, files }: TargetView,
  file: MappedFile,
  symbol: FunctionSymbol,
): FileOffset | undefined {
  using reader = new MemoryReader(pid);
  const names = unambiguousNames(file, symbol);
  const resolver = symbol.address;
  // The file's own calls go by its resolver; others know it by name.
  const own = pointersOf(maps, file, { names: new Set(), resolver });
  const chosen = firstInside(own, reader, maps, file);
  if (chosen !== undefined || names.size === 0) return chosen;
  for (const mapping of maps) {
    if (!mapping.executable || !isFile(mapping) || mapping.inode === file.inode) continue;
    const other = openIfReadable(pid, mapping, files);
    if (other === undefined) continue;
    const pointers = pointersOf(maps, other, { names, resolver: undefined });
    const found = firstInside(pointers, reader, maps, file);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Names that mean this function only: `memcpy@GLIBC_2.2.5` is another one than `memcpy@@GLIBC_2.14`. */
function unambiguousNames(file: MappedFile, symbol: FunctionSymbol): Set<string> {
  const names = file.symbols.aliasesAt(symbol.offset).map(({ name }) => name);
  return new Set(
    names.filter((name) => file.symbols.find(name).every(({ offset }) => offset === symbol.offset)),
  );
}

/** Where the linker's words for a function are in the process. */
function pointersOf(
  maps: readonly MemoryMapping[],
  file: MappedFile,
  wanted: Parameters<typeof functionPointers>[1],
): Address[] {
  const [text] = file.elf.executableSegments();
  const at = text === undefined ? undefined : file.addressIn(maps, text.fileOffset);
  if (text === undefined || at === undefined) return [];
  const bias = at - text.address;
  return functionPointers(file.elf, wanted).map((word) => address(BigInt.asUintN(64, word + bias)));
}

/** The first word that holds where a function of the file begins. Others were not resolved, or elsewhere. */
function firstInside(
  words: readonly Address[],
  reader: MemoryReader,
  maps: readonly MemoryMapping[],
  file: MappedFile,
): FileOffset | undefined {
  for (const word of words) {
    const value = readWord(reader, word);
    const mapping = value === undefined ? undefined : findMapping(maps, value);
    if (value === undefined || mapping?.executable !== true) continue;
    if (mapping.inode !== file.inode || mapping.device !== file.device) continue;
    const offset = fileOffset(Number(value - mapping.start + mapping.offset));
    // What is not resolved yet leads to the middle of a linkage table.
    if (functionBounds(file.elf, offset)?.start === offset) return offset;
  }
  return undefined;
}

function readWord(reader: MemoryReader, at: Address): Address | undefined {
  try {
    const bytes = reader.read(at, 8);
    return address(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    log('no word: %s', error.message);
    return undefined; // not mapped yet, or the file says nonsense
  }
}

function openIfReadable(
  pid: Pid,
  mapping: MemoryMapping,
  files: FileCache,
): MappedFile | undefined {
  try {
    return files.open(pid, mapping);
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    log('cannot ask %s: %s', mapping.path, error.message);
    return undefined; // another file may tell
  }
}

function chosenByUs(file: MappedFile, symbol: FunctionSymbol): FileOffset | undefined {
  const at = resolveOwnSymbol(file.path, symbol.name, symbol.version);
  if (at === undefined) return undefined;
  const mapping = findMapping(readMaps(ownPid()), at);
  if (mapping?.inode !== file.inode || mapping.device !== file.device) return undefined;
  return fileOffset(Number(at - mapping.start + mapping.offset));
}
