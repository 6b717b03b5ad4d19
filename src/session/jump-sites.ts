/** Where sessions of Trapline, living and dead, have jumps: no uprobe may be set on their bytes (rule 13). */

import { hex, type FileOffset, type Pid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { ControlBlock } from '../engines/jump/block.ts';
import { findProcesses, mapsIfReadable, MemoryReader } from '../engines/jump/spaces.ts';
import { isOurs } from '../engines/jump/withdraw.ts';
import type { SiteRow } from '../process/control.ts';
import { splitDeviceText, type MappedFile } from './files.ts';

interface HeldSite {
  readonly pid: Pid;
  readonly site: SiteRow;
}

/** The jumps of all processes of the machine, as they are now. */
export class JumpSites {
  readonly #sites: readonly HeldSite[];

  constructor() {
    this.#sites = findProcesses((maps) => maps.some(isOurs)).flatMap((pid) => sitesOf(pid));
  }

  /**
   * Why the kernel must not put a breakpoint at a place: it would execute the file's own instruction and go on
   * behind it, in the middle of a jump. Undefined where no jump is.
   */
  refuse(file: MappedFile, offset: FileOffset): string | undefined {
    const { deviceMajor, deviceMinor } = splitDeviceText(file.device);
    const held = this.#sites.find(
      ({ site }) =>
        site.inode === file.inode &&
        site.deviceMajor === deviceMajor &&
        site.deviceMinor === deviceMinor &&
        offset >= site.fileOffset &&
        offset < site.fileOffset + site.displacedBytes,
    );
    if (held === undefined) return undefined;
    return `process ${held.pid} has a jump of Trapline there (at file offset ${hex(held.site.fileOffset)}), which a breakpoint of the kernel would break`;
  }
}

function sitesOf(pid: Pid): HeldSite[] {
  const maps = mapsIfReadable(pid);
  if (!maps.some(isOurs)) return [];
  try {
    using reader = new MemoryReader(pid);
    const block = ControlBlock.read(maps, reader.read);
    return [...block.sites.values()]
      .filter(({ state }) => state === 'live')
      .map((site) => ({ pid, site }));
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'no-process') throw error;
    return []; // ended meanwhile
  }
}
