/** Who comes to bytes of a file by direct branches, or takes their address: findLandings in file offsets. */

import type { ExecutableSegment } from '../../symbols/elf.ts';
import { findLandings, type Landing, type TextFunction, type Window } from '../../x64/landings.ts';
import type { FileCode } from './file-code.ts';

/** A window in file offsets: see there. */
export interface AskedBytes extends Window {
  readonly segment: ExecutableSegment;
}

/** Searches the text of one file. */
export class LandingSearch {
  readonly #code: FileCode;

  constructor(code: FileCode) {
    this.#code = code;
  }

  /** For all bytes asked about who comes there, in file offsets; the text is searched once for all. */
  find(asked: readonly (AskedBytes | undefined)[]): (readonly Landing[])[] {
    const found: (readonly Landing[])[] = asked.map(() => []);
    for (const segment of this.#code.segments) {
      const { fileOffset: first, fileSize } = segment;
      const inside: number[] = [];
      const windows: Window[] = [];
      asked.forEach((bytes, index) => {
        if (bytes?.segment !== segment) return;
        inside.push(index);
        windows.push({ ...bytes, start: bytes.start - first, end: bytes.end - first });
      });
      if (inside.length === 0) continue;
      const text = this.#code.elf.bytes.subarray(first, first + fileSize);
      const landings = findLandings(text, windows, (at) => this.#functionAt(segment, first + at));
      inside.forEach((index, nth) => {
        found[index] = (landings[nth] ?? []).map((landing) => {
          const { target, from } = landing;
          return { ...landing, target: first + target, from: first + from };
        });
      });
    }
    return found;
  }

  /** The function around a byte of the segment, if it is known and begins there. */
  #functionAt(segment: ExecutableSegment, offset: number): TextFunction | undefined {
    const bounds = this.#code.boundsAt(offset);
    if (bounds === undefined || bounds.start < segment.fileOffset) return undefined;
    const listing = this.#code.listing(bounds, segment);
    return { start: bounds.start - segment.fileOffset, listing };
  }
}
