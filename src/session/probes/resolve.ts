/** From a definition's text to places in files: what a probe is, before any process has it. */

import { fileOffset, hex, type Address, type FileOffset, type Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { compileGlob } from '../../base/glob.ts';
import type { ProbeDefinition } from '../../probe/definition.ts';
import { placeColumns } from '../../probe/place-columns.ts';
import type { FunctionLocation, ProbeLocation } from '../../probe/location.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import type { FunctionSymbol } from '../../symbols/function-symbol.ts';
import { implementationOf, type TargetView } from './chosen.ts';
import { debugFileAdvice } from '../files/debug-advice.ts';
import { filesNamed } from '../files/file-names.ts';
import { isFile, type FileCache, type MappedFile } from '../files/files.ts';

/** One place of a file that a definition names. */
export interface NamedPlace {
  readonly file: MappedFile;
  readonly offset: FileOffset;
  /** For people: `zfree`, `ns::f(int)+0x8`, `zsh+0x1234`. */
  readonly name: string;
  /** What its event is named after: the name without parameters; undefined for a file offset. */
  readonly eventName: string | undefined;
}

/** A place that was named but can't be told. */
export interface UnresolvedPlace {
  readonly file: MappedFile;
  readonly name: string;
  readonly reason: string;
}

/** What a definition names in one file. */
export interface NamedPlaces {
  readonly places: readonly NamedPlace[];
  readonly unresolved: readonly UnresolvedPlace[];
  /** Functions that its glob matches and that were not to be taken. */
  readonly excluded: number;
  /**
   * Whether another process may have other places: the implementations that were chosen there. What an address
   * names is one place of one process.
   */
  readonly isOfProcess: boolean;
}

const UNKNOWN_IMPLEMENTATION =
  'it is an IFUNC, whose code is chosen when a program first needs it, and nothing tells yet what was chosen ' +
  'there: attach to the process when it has called it';
/** How many near names an error proposes. */
const PROPOSALS = 5;

/**
 * The files that a location means, each once; none while the process does not map them.
 * @throws TraplineError `no-file`, `bad-elf`, `refused`.
 */
export function filesMeant(
  pid: Pid,
  maps: readonly MemoryMapping[],
  location: ProbeLocation,
  files: FileCache,
): readonly MappedFile[] {
  if (location.kind === 'function' || location.kind === 'offset') {
    return filesNamed(pid, maps, location.file, files);
  }
  const mapping =
    location.kind === 'inode'
      ? maps.find(({ device, inode }) => device === location.device && inode === location.inode)
      : location.pid === (pid as number) // a plain number, as people write it
        ? mappingAt(maps, location.address)
        : undefined;
  return mapping === undefined ? [] : [files.open(pid, mapping)];
}

/**
 * The places that a definition names in a file that a process maps.
 * @throws TraplineError `no-symbol` with near names, `bad-elf`, `refused`.
 */
export function namePlaces(
  view: TargetView,
  file: MappedFile,
  { location }: ProbeDefinition,
  exclude: readonly string[],
): NamedPlaces {
  if (location.kind === 'function') return nameFunctions(view, file, location, exclude);
  const isOfProcess = location.kind === 'address';
  const offset = isOfProcess ? offsetAt(view.maps, location.address) : location.offset;
  return { places: [placeAt(file, offset)], unresolved: [], excluded: 0, isOfProcess };
}

/**
 * Of the places that a definition names, those that no mapping of a process shows.
 * @throws TraplineError `refused` for an offset.
 */
export function notShown(
  { location, text }: ProbeDefinition,
  named: readonly NamedPlace[],
  found: readonly NamedPlace[],
): UnresolvedPlace[] {
  const shown = new Map<MappedFile, Set<number>>();
  for (const { file, offset } of found) {
    const offsets = shown.get(file);
    if (offsets === undefined) shown.set(file, new Set([offset]));
    else offsets.add(offset);
  }
  const missing = named.filter(({ file, offset }) => shown.get(file)?.has(offset) !== true);
  const [first] = missing;
  if (first !== undefined && location.kind !== 'function') throw notExecutable(first, text);
  return missing.map(({ file, name }) => ({ file, name, reason: 'it is not mapped executable' }));
}

function notExecutable({ file, offset }: NamedPlace, text: string): TraplineError {
  return new TraplineError({
    code: 'refused',
    message: `the offset ${hex(offset)} of ${file.path} is not mapped executable`,
    hint: 'It has to be a file offset (not an address) within the code: `readelf -lW FILE` shows where that is.',
    position: { text, column: placeColumns(text).offset },
  });
}

/** @throws TraplineError `refused` where no file's code is. */
function mappingAt(maps: readonly MemoryMapping[], at: Address): MemoryMapping {
  const mapping = findMapping(maps, at);
  if (mapping !== undefined && mapping.executable && isFile(mapping)) return mapping;
  throw new TraplineError({
    code: 'refused',
    message: `there is no file's code at ${hex(at)}`,
    hint: `An address is one in memory, in a mapping that /proc/PID/maps shows as r-xp.`,
  });
}

function offsetAt(maps: readonly MemoryMapping[], at: Address): FileOffset {
  const mapping = mappingAt(maps, at);
  return fileOffset(Number(at - mapping.start + mapping.offset));
}

function placeAt(file: MappedFile, offset: FileOffset): NamedPlace {
  const symbol = file.symbols.at(offset);
  const name =
    symbol === undefined
      ? `${file.path}:${hex(offset)}`
      : withOffset(readable(file, symbol), offset - symbol.offset);
  return { file, offset, name, eventName: undefined };
}

function nameFunctions(
  context: TargetView,
  file: MappedFile,
  location: FunctionLocation,
  exclude: readonly string[],
): NamedPlaces {
  const symbols = location.isGlob ? file.symbols.glob(location.name) : exact(file, location);
  const unwanted = location.isGlob ? exclude.map((glob) => compileGlob(glob)) : [];
  const places: NamedPlace[] = [];
  const unresolved: UnresolvedPlace[] = [];
  let isOfProcess = false;
  let excluded = 0;
  const seen = new Set<number>();
  for (const symbol of symbols) {
    const name = readable(file, symbol);
    if (unwanted.some((matches) => matches(symbol.name) || matches(name))) {
      excluded++;
      continue;
    }
    if (symbol.kind === 'ifunc') isOfProcess = true;
    const start = symbol.kind === 'ifunc' ? implementationOf(context, file, symbol) : symbol.offset;
    if (start === undefined) {
      unresolved.push({ file, name, reason: UNKNOWN_IMPLEMENTATION });
      continue;
    }
    if (
      location.offset >= Math.max(symbol.size, 1) &&
      symbol.sizeKnown &&
      symbol.kind !== 'ifunc'
    ) {
      throw beyondEnd(file, symbol, location.offset);
    }
    const offset = fileOffset(start + location.offset);
    if (seen.has(offset)) continue;
    seen.add(offset);
    const shown = withOffset(name, location.offset);
    const plain = file.symbols.readable(symbol)?.path ?? symbol.name;
    const eventName = symbol.kind === 'plt' ? plain.replace(/@plt$/, '_plt') : plain;
    places.push({ file, offset, name: shown, eventName });
  }
  if (places.length === 0 && unresolved.length === 0) {
    throw excluded > 0 ? nothingLeft(file, location, excluded) : nothingFound(file, location);
  }
  return { places, unresolved, excluded, isOfProcess };
}

/** The default version where a name has several and none was asked for. */
function exact(file: MappedFile, location: FunctionLocation): FunctionSymbol[] {
  const found = file.symbols.find(location.name);
  const defaults = found.filter(({ isDefaultVersion }) => isDefaultVersion);
  return defaults.length > 0 ? defaults : found;
}

function readable(file: MappedFile, symbol: FunctionSymbol): string {
  return file.symbols.readable(symbol)?.signature ?? symbol.name;
}

function withOffset(name: string, offset: number): string {
  return offset === 0 ? name : `${name}+${hex(offset)}`;
}

function beyondEnd(file: MappedFile, symbol: FunctionSymbol, offset: number): TraplineError {
  return new TraplineError({
    code: 'refused',
    message: `${symbol.name}+${hex(offset)} is outside of the function: ${symbol.name} in ${file.path} has ${symbol.size} bytes`,
    hint: `Name an offset from 0 to ${hex(symbol.size - 1)} at which an instruction begins.`,
  });
}

function nothingLeft(
  file: MappedFile,
  location: FunctionLocation,
  excluded: number,
): TraplineError {
  const what = excluded === 1 ? 'the function' : `all ${excluded} functions`;
  const match = excluded === 1 ? 'matches' : 'match';
  return new TraplineError({
    code: 'no-symbol',
    message: `${what} of ${file.path} that ${match} ${location.name} ${excluded === 1 ? 'is' : 'are'} excluded`,
    hint: 'Exclude less: `--exclude GLOB` leaves out what it matches.',
  });
}

function nothingFound(file: MappedFile, location: FunctionLocation): TraplineError {
  const advice = debugFileAdvice(file.elf, file.symbols.sources);
  return new TraplineError({
    code: 'no-symbol',
    message: location.isGlob
      ? `no function of ${file.path} matches ${location.name}`
      : `there is no function ${location.name} in ${file.path}`,
    hint: [proposal(file, location), ...(advice === undefined ? [] : [advice])].join(' '),
  });
}

function proposal(file: MappedFile, location: FunctionLocation): string {
  const near = location.isGlob ? [] : file.symbols.near(location.name, PROPOSALS);
  return near.length > 0
    ? `Did you mean ${near.join(', ')}?`
    : `\`trapline list ${file.path}\` shows what there is.`;
}
