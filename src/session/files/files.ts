/** The files that targets map: found as the target sees them, read once, kept by inode. */

import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';

import { address, type Address, type FileOffset, type Pid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { messageOf, TraplineError } from '../../base/errors.ts';
import { Planner } from '../../engines/jump/planner.ts';
import type { TargetFiles } from '../../engines/jump/target-files.ts';
import type { OriginalBytes } from '../../engines/jump/restore.ts';
import type { BlobPlace } from '../../process/blob-place.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import { findMapping, readMaps, type MemoryMapping } from '../../process/maps.ts';
import { visibleTask } from '../../process/tasks.ts';
import { demangleCpp } from '../../sys/demangle.ts';
import { identifyFile } from '../../sys/memfd.ts';
import { ownPid } from '../../sys/signals.ts';
import { ElfFile } from '../../symbols/elf.ts';
import { symbolSources } from '../../symbols/symbol-sources.ts';
import { SymbolTable } from '../../symbols/symbol-table.ts';
import { tidOffset } from '../../symbols/thread-id.ts';
import { DebugFiles, type FilePlace } from './debug-files.ts';
import { waysToDeleted } from './deleted-files.ts';
import { LastMappings } from './last-mappings.ts';
import { isSameFile, leadsTo } from './same-file.ts';

const log = debugLog('session');

/** Files larger than this are not read whole just to look for unused bytes in them. */
const LARGE_FILE_BYTES = 16 << 20;
/** musl's struct pthread: the id behind self, dtv, prev, next, sysinfo and canary (1.2); verified at use. */
const MUSL_TID_OFFSETS = [0x30, 0x38] as const;

/** A file that a target maps. */
export class MappedFile {
  /** As /proc/PID/maps prints it: `fe:01`. */
  readonly device: string;
  readonly inode: bigint;
  readonly path: string;
  readonly elf: ElfFile;
  readonly #mapping: MemoryMapping;
  readonly #way: string;
  #symbols: SymbolTable | undefined;
  #planner: Planner | undefined;

  /** @param debugFiles where its debug file is looked for, if a name needs it */
  constructor(mapping: MemoryMapping, content: FileContent, debugFiles: DebugFiles) {
    this.#mapping = mapping;
    this.#way = content.way;
    this.device = mapping.device;
    this.inode = mapping.inode;
    this.path = mapping.path;
    this.elf = ElfFile.open(content.bytes, mapping.path);
    symbolSources(this.elf, () => debugFiles.find(this.elf, content.place));
  }

  get symbols(): SymbolTable {
    return (this.#symbols ??= SymbolTable.of(this.elf, { demangle: demangleCpp }));
  }

  /** By which path we reach it: its own if that leads to it for us, too. */
  get way(): string {
    return leadsTo(this.path, this.#mapping) ? this.path : this.#way;
  }

  /** As rows of the control block name it. */
  get identity(): Pick<SiteRow, 'deviceMajor' | 'deviceMinor' | 'inode'> {
    const [major = '0', minor = '0'] = this.device.split(':');
    return {
      deviceMajor: Number.parseInt(major, 16),
      deviceMinor: Number.parseInt(minor, 16),
      inode: this.inode,
    };
  }

  get planner(): Planner {
    return (this.#planner ??= new Planner(this.elf));
  }

  /** Where a byte of the file is executable in these mappings; undefined where it is not mapped so. */
  addressIn(maps: readonly MemoryMapping[], offset: FileOffset): Address | undefined {
    return this.#find(maps, offset, ({ executable }) => executable);
  }

  /** Where a byte of the file is the process's own data; undefined where it is not mapped so. */
  counterIn(maps: readonly MemoryMapping[], offset: FileOffset): Address | undefined {
    return this.#find(maps, offset, ({ writable, shared }) => writable && !shared);
  }

  #find(
    maps: readonly MemoryMapping[],
    offset: FileOffset,
    suits: (mapping: MemoryMapping) => boolean,
  ): Address | undefined {
    const mapping = maps.find(
      (candidate) =>
        suits(candidate) &&
        candidate.inode === this.inode &&
        candidate.device === this.device &&
        BigInt(offset) >= candidate.offset &&
        BigInt(offset) < candidate.offset + (candidate.end - candidate.start),
    );
    if (mapping === undefined) return undefined;
    return address(mapping.start + BigInt(offset) - mapping.offset);
  }
}

/** Reads files once and answers the jump engine's questions about them. */
export class FileCache implements TargetFiles {
  /** What processes mapped last. */
  readonly mappings: LastMappings = new LastMappings();
  /** By what was read of a process's mappings: the files that names mean there. */
  readonly named: WeakMap<readonly MemoryMapping[], Map<string, readonly MappedFile[]>> =
    new WeakMap();
  readonly #files = new Map<string, { readonly file: MappedFile; readonly content: FileContent }>();
  readonly #debugFiles = new DebugFiles();

  /**
   * The file behind a mapping, as the process has it: replaced, renamed or in another mount namespace
   * notwithstanding.
   * @throws TraplineError `no-file` when it can't be reached, `bad-elf`, `unsupported`.
   */
  open(pid: Pid, mapping: MemoryMapping): MappedFile {
    const key = keyOf(mapping);
    const known = this.#files.get(key);
    // A number is given again to the next file when one is gone, and a file can be written over.
    if (known !== undefined && !wasChanged(pid, mapping, known.content)) return known.file;
    const content = readMapped(pid, mapping);
    const file = new MappedFile(mapping, content, this.#debugFiles);
    this.#files.set(key, { file, content });
    return file;
  }

  blobPlaces(pid: Pid, maps: readonly MemoryMapping[]): readonly BlobPlace[] {
    const places: BlobPlace[] = [];
    const wanted = 3;
    for (const loadedOnly of [true, false]) {
      for (const mapping of maps) {
        if (!mapping.executable || mapping.shared || !isFile(mapping)) continue;
        if (loadedOnly !== this.#files.has(keyOf(mapping))) continue;
        if (!loadedOnly && (places.length >= wanted || isLarge(pid, mapping))) continue;
        places.push(...this.#tails(pid, maps, mapping));
      }
      if (places.some(({ original }) => original.byteLength >= 1024)) return places;
    }
    return places;
  }

  /** The never executed tails of the given mappings. */
  tails(
    pid: Pid,
    maps: readonly MemoryMapping[],
    some: readonly MemoryMapping[],
  ): readonly BlobPlace[] {
    return some.flatMap((mapping) => this.#tails(pid, maps, mapping));
  }

  /** What a mapping's file holds where it is mapped; zeros past the file's end. */
  bytesOf(pid: Pid, mapping: MemoryMapping): Uint8Array {
    const bytes = new Uint8Array(Number(mapping.end - mapping.start));
    const from = Number(mapping.offset);
    const file = this.open(pid, mapping).elf.bytes;
    bytes.set(file.subarray(from, from + bytes.byteLength));
    return bytes;
  }

  original(pid: Pid, maps: readonly MemoryMapping[]): OriginalBytes {
    // Asked for thousands of sites in one stop: whether a file has changed is looked at once.
    const contents = new Map<MemoryMapping, Uint8Array | undefined>();
    return (place, length) => {
      const mapping = findMapping(maps, place.address);
      if (mapping === undefined || mapping.inode !== place.inode) return undefined;
      if (!contents.has(mapping)) contents.set(mapping, this.#openIfThere(pid, mapping)?.elf.bytes);
      const offset = Number(place.address - mapping.start + mapping.offset);
      return contents.get(mapping)?.subarray(offset, offset + length);
    };
  }

  tidOffsets(pid: Pid, maps: readonly MemoryMapping[]): readonly number[] {
    for (const mapping of maps) {
      if (!mapping.executable || !isFile(mapping)) continue;
      const name = basename(mapping.path);
      if (/^ld-musl-|^libc\.musl-/.test(name)) return MUSL_TID_OFFSETS;
      if (!/^(?:libc[.-]|libpthread[.-])/.test(name)) continue;
      const file = this.#openIfThere(pid, mapping);
      // It may have been upgraded meanwhile: ours will do, since whatever is said here is verified with the tasks.
      if (file === undefined)
        return pid === ownPid() ? [] : this.tidOffsets(ownPid(), readMaps(ownPid()));
      const offset = tidOffset(file.elf);
      if (offset !== undefined) return [offset];
    }
    return [];
  }

  #tails(pid: Pid, maps: readonly MemoryMapping[], mapping: MemoryMapping): BlobPlace[] {
    try {
      const file = this.open(pid, mapping);
      return file.elf.segmentTails().flatMap((tail) => {
        const at = file.addressIn(maps, tail.fileOffset);
        if (at === undefined) return [];
        const original = new Uint8Array(tail.length);
        original.set(file.elf.bytes.subarray(tail.fileOffset, tail.fileOffset + tail.length));
        return [{ address: at, original }];
      });
    } catch (error) {
      // Not this file, then: another has room as well.
      log('no tails in %s: %s', mapping.path, messageOf(error));
      return [];
    }
  }

  /** Undefined where the file can't be read. */
  #openIfThere(pid: Pid, mapping: MemoryMapping): MappedFile | undefined {
    try {
      return this.open(pid, mapping);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      log('cannot read %s: %s', mapping.path, error.message);
      return undefined;
    }
  }
}

/** Whether a mapping is of a file with a name, or that had one. */
export function isFile(mapping: MemoryMapping): boolean {
  return (
    mapping.inode !== 0n && mapping.path.startsWith('/') && !mapping.path.startsWith('/memfd:')
  );
}

function keyOf({ device, inode }: MemoryMapping): string {
  return `${device}:${inode}`;
}

function isLarge(pid: Pid, mapping: MemoryMapping): boolean {
  const fd = openAny(pathsOf(visibleTask(pid), mapping.path));
  if (fd === undefined) return true;
  try {
    return identifyFile(fd).bytes > LARGE_FILE_BYTES;
  } finally {
    closeSync(fd);
  }
}

/** What was read of a file, and how it was reached. */
interface FileContent {
  readonly bytes: Uint8Array;
  /** Its size and when it was last written: another file has others. */
  readonly stamp: string;
  readonly place: FilePlace;
  /** By which path it was reached. */
  readonly way: string;
}

/** Whether the number of a file that was read means other contents now. What can't be seen counts as the same. */
function wasChanged(pid: Pid, mapping: MemoryMapping, { stamp }: FileContent): boolean {
  if (mapping.deleted) return false;
  try {
    const found = statSync(`/proc/${visibleTask(pid)}/root${mapping.path}`, { bigint: true });
    return found.ino === mapping.inode && stampOf(found) !== stamp;
  } catch {
    return false; // not there, or not ours to look at
  }
}

function stampOf({ size, mtimeNs }: { size: bigint; mtimeNs: bigint }): string {
  return `${size} ${mtimeNs}`;
}

/** Reads the file of a mapping by whatever way leads to that very inode. */
function readMapped(pid: Pid, mapping: MemoryMapping): FileContent {
  const range = `${mapping.start.toString(16)}-${mapping.end.toString(16)}`;
  const task = visibleTask(pid);
  const root = `/proc/${task}/root`;
  const named = pathsOf(task, mapping.path);
  const unnamed = [`/proc/${task}/exe`, `/proc/${task}/map_files/${range}`];
  const waysOf = function* (): Generator<string> {
    yield* named;
    yield* unnamed;
    // Asked last: it is a look at every descriptor of every process.
    if (mapping.deleted) yield* waysToDeleted(pid, mapping);
  };
  for (const way of waysOf()) {
    const fd = openAny([way]);
    if (fd === undefined) continue;
    try {
      if (!isSameFile(fd, mapping)) continue;
      const stamp = stampOf(fstatSync(fd, { bigint: true }));
      const path = way.startsWith(`${root}/`) ? way.slice(root.length) : mapping.path;
      return { bytes: readFileSync(fd), stamp, place: { path, root }, way };
    } finally {
      closeSync(fd);
    }
  }
  throw new TraplineError({
    code: 'no-file',
    message: `${mapping.path}, as process ${pid} maps it, can't be read${mapping.deleted ? ' (it was deleted or replaced)' : ''}`,
    hint:
      'With CAP_CHECKPOINT_RESTORE (as root) it is reached through /proc/PID/map_files, and without where a process of ' +
      'yours has it open or runs it; or restart the process.',
  });
}

/**
 * Paths that may lead to what maps call `path`: that is seen from our own root if the file is within it, else
 * from the root of the target's mount namespace, below which the target may have changed its root.
 */
function pathsOf(pid: Pid, path: string): string[] {
  const paths = [`/proc/${pid}/root${path}`, path];
  for (let at = path.indexOf('/', 1); at > 0; at = path.indexOf('/', at + 1)) {
    paths.push(`/proc/${pid}/root${path.slice(at)}`);
  }
  return paths;
}

function openAny(paths: readonly string[]): number | undefined {
  for (const path of paths) {
    try {
      // What replaced the file may be a pipe, whose open would wait for a writer.
      return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      log('cannot open %s: %s', path, messageOf(error));
    }
  }
  return undefined;
}
