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

  /**
   * For all bytes asked about who comes there, in file offsets; each text of the file is searched once for all that lie in one
   * of them.
   */
  find(asked: readonly (AskedBytes | undefined)[]): (readonly Landing[])[] {
    const found: Landing[][] = asked.map(() => []);
    for (const goal of this.#code.segments) {
      const inside = asked.flatMap((bytes, index) => {
        return bytes?.segment === goal ? [{ bytes, index }] : [];
      });
      if (inside.length === 0) continue;
      for (const text of this.#code.segments) {
        const landings = this.#landings(
          text,
          goal,
          inside.map(({ bytes }) => bytes),
        );
        inside.forEach(({ index }, nth) => found[index]?.push(...(landings[nth] ?? [])));
      }
    }
    return found;
  }

  /** Who comes from one text of the file to bytes of the same or of another. */
  #landings(
    text: ExecutableSegment,
    goal: ExecutableSegment,
    windows: readonly Window[],
  ): Landing[][] {
    const { fileOffset: first, fileSize } = text;
    // From the start of the one in memory to what would be that of the file's bytes of the other.
    const distance = Number(goal.address - text.address) - goal.fileOffset;
    const landings = findLandings(
      this.#code.elf.bytes.subarray(first, first + fileSize),
      windows.map((window) => {
        return { ...window, start: window.start + distance, end: window.end + distance };
      }),
      (at) => this.#functionAt(text, first + at),
    );
    return landings.map((some) =>
      some.map((landing) => {
        return { ...landing, target: landing.target - distance, from: first + landing.from };
      }),
    );
  }

  /** The function around a byte of the segment, if it is known and begins there. */
  #functionAt(segment: ExecutableSegment, offset: number): TextFunction | undefined {
    const bounds = this.#code.boundsAt(offset);
    if (bounds === undefined || bounds.start < segment.fileOffset) return undefined;
    const listing = this.#code.listing(bounds, segment);
    return { start: bounds.start - segment.fileOffset, listing };
  }
}
