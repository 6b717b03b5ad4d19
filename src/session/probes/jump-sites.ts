/** Where sessions of Trapline, living and dead, have jumps: no uprobe may be set on their bytes (rule 13). */

import { hex, type FileOffset, type Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { ControlBlock } from '../../engines/jump/block.ts';
import { isPlaceThere } from '../../engines/jump/gone.ts';
import { JUMP_BYTES, restOf } from '../../engines/jump/patches.ts';
import { findProcesses, mapsIfReadable, MemoryReader } from '../../engines/jump/spaces.ts';
import { isOurs } from '../../engines/jump/withdraw.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import type { MappedFile } from '../files/files.ts';

interface HeldSite {
  readonly pid: Pid;
  readonly site: SiteRow;
}

/** What a process has of jumps: where they are, or the files in which there may be some. */
interface Holder {
  readonly sites: readonly HeldSite[];
  readonly unknown: readonly MemoryMapping[];
}

/** The jumps of all processes of the machine, as they are now. */
export class JumpSites {
  readonly #sites: readonly HeldSite[];
  /** By process, files in which another version of Trapline may have jumps. */
  readonly #unknown: ReadonlyMap<Pid, readonly MemoryMapping[]>;

  constructor() {
    const found = findProcesses((maps) => maps.some(isOurs)).map((pid) => {
      return [pid, holderOf(pid)] as const;
    });
    this.#sites = found.flatMap(([, { sites }]) => sites);
    this.#unknown = new Map(found.map(([pid, { unknown }]) => [pid, unknown]));
  }

  /**
   * Why the kernel must not put a breakpoint at a place: it would execute the file's own instruction and go on
   * behind it, in the middle of a jump. Undefined where no jump is.
   */
  refuse(file: MappedFile, offset: FileOffset): string | undefined {
    const { deviceMajor, deviceMinor, inode } = file.identity;
    const held = this.#sites.find(
      ({ site }) =>
        site.inode === inode &&
        site.deviceMajor === deviceMajor &&
        site.deviceMinor === deviceMinor &&
        usedRanges(site).some(({ start, end }) => offset >= start && offset < end),
    );
    if (held === undefined) return this.#refuseUnknown(file);
    return `process ${held.pid} has a jump of Trapline there (at file offset ${hex(held.site.fileOffset)}), which a breakpoint of the kernel would break`;
  }

  #refuseUnknown({ device, inode }: MappedFile): string | undefined {
    for (const [pid, maps] of this.#unknown) {
      if (!maps.some((one) => one.device === device && one.inode === inode)) continue;
      return `process ${pid}, which maps the file, may have a jump of another version of Trapline there, which a breakpoint of the kernel would break`;
    }
    return undefined;
  }
}

/** File offsets that must stay as they are: what is replaced and rested on, and a jump in padding. */
function usedRanges(site: SiteRow): { readonly start: number; readonly end: number }[] {
  const { address: at, fileOffset: start, displacedBytes, patchBytes, method, via } = site;
  const rest = Number((restOf(site)?.end ?? at) - at);
  const ranges = [{ start, end: start + Math.max(displacedBytes, patchBytes, rest) }];
  if (method === 'short-jump' && via !== undefined) {
    const padding = start + Number(via - at);
    ranges.push({ start: padding, end: padding + JUMP_BYTES });
  }
  return ranges;
}

function holderOf(pid: Pid): Holder {
  const maps = mapsIfReadable(pid);
  if (!maps.some(isOurs)) return { sites: [], unknown: [] };
  try {
    using reader = new MemoryReader(pid);
    const block = ControlBlock.read(maps, reader.read);
    const live = [...block.sites.values()].filter(
      (site) => site.state === 'live' && isPlaceThere(maps, site),
    );
    return { sites: live.map((site) => ({ pid, site })), unknown: [] };
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    // Ended meanwhile; or its block is not one that we can read.
    const isGone = error.code === 'no-process';
    return { sites: [], unknown: isGone ? [] : maps.filter(({ executable }) => executable) };
  }
}
