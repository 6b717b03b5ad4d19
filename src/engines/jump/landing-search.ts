/** Who comes to bytes of a file by direct branches, or takes their address: findLandings in file offsets. */

import type { ExecutableSegment } from '../../symbols/elf.ts';
import { findLandings, type Landing, type TextFunction, type Window } from '../../x64/landings.ts';
import type { FileCode } from './file-code.ts';

/** A window in file offsets: see there. */
export interface AskedBytes extends Window {
  readonly segment: ExecutableSegment;
}

/** Bytes of memory within which texts are searched for together: a bit for each is held. */
const MOST_TOGETHER = 1 << 28;

/** Searches the text of one file. */
export class LandingSearch {
  readonly #code: FileCode;
  readonly #goals: readonly (readonly ExecutableSegment[])[];

  constructor(code: FileCode) {
    this.#code = code;
    this.#goals = neighbours(code.segments);
  }

  /** For all bytes asked about who comes there, in file offsets; each text of the file is searched once for all. */
  find(asked: readonly (AskedBytes | undefined)[]): (readonly Landing[])[] {
    const found: Landing[][] = asked.map(() => []);
    for (const goals of this.#goals) {
      const windows = asked.flatMap((bytes, index) => {
        return bytes !== undefined && goals.includes(bytes.segment) ? [{ bytes, index }] : [];
      });
      if (windows.length === 0) continue;
      const goal = windows.map(({ bytes }) => bytes);
      for (const text of this.#code.segments) {
        const landings = this.#landings(text, goal);
        windows.forEach(({ index }, nth) => found[index]?.push(...(landings[nth] ?? [])));
      }
    }
    return found;
  }

  /** Who comes from one text of the file to bytes of it and of others. */
  #landings(text: ExecutableSegment, windows: readonly AskedBytes[]): Landing[][] {
    const { fileOffset: first, fileSize } = text;
    // From the text's start to where the file's first byte would lie if all were mapped as the window is.
    const distances = windows.map(({ segment }) => {
      return Number(segment.address - text.address) - segment.fileOffset;
    });
    const found = findLandings(
      this.#code.elf.bytes.subarray(first, first + fileSize),
      windows.map((window, at) => {
        const distance = distances[at] ?? 0;
        return { ...window, start: window.start + distance, end: window.end + distance };
      }),
      (at) => this.#functionAt(text, first + at),
      this.#code.elf.type === 'fixed' ? Number(text.address) : undefined,
    );
    return found.map((landings, at) => {
      const distance = distances[at] ?? 0;
      return landings.map((landing) => {
        return { ...landing, target: landing.target - distance, from: first + landing.from };
      });
    });
  }

  /** The function around a byte of the segment, if it is known and begins there. */
  #functionAt(segment: ExecutableSegment, offset: number): TextFunction | undefined {
    const bounds = this.#code.boundsAt(offset);
    if (bounds === undefined || bounds.start < segment.fileOffset) return undefined;
    const listing = this.#code.listing(bounds, segment);
    return { start: bounds.start - segment.fileOffset, listing };
  }
}

/** Segments in groups that lie near each other. */
function neighbours(segments: readonly ExecutableSegment[]): ExecutableSegment[][] {
  const groups: ExecutableSegment[][] = [];
  const ascending = [...segments].sort((one, other) => Number(one.address - other.address));
  for (const segment of ascending) {
    const group = groups.at(-1);
    const start = group?.[0]?.address ?? segment.address;
    const end = segment.address + BigInt(segment.fileSize);
    if (group !== undefined && end - start <= MOST_TOGETHER) group.push(segment);
    else groups.push([segment]);
  }
  return groups;
}
