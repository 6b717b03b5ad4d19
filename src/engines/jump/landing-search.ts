/** Who comes to bytes of a file by direct branches, takes their address, or reads them: searches of texts in file offsets. */

import type { ExecutableSegment } from '../../symbols/elf.ts';
import { findReads } from '../../x64/data-reads.ts';
import { findLandings, type Landing, type TextFunction, type Window } from '../../x64/landings.ts';
import type { FileCode } from './file-code.ts';
import type { Padding } from './filler.ts';

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
    this.#eachText(asked, (text, windows) => {
      const landings = this.#landings(
        text,
        windows.map(({ bytes }) => bytes),
      );
      windows.forEach(({ index }, nth) => found[index]?.push(...(landings[nth] ?? [])));
    });
    return found;
  }

  /** Of each range the first byte that an instruction reads or writes relative to rip, as a file offset. */
  findReads(asked: readonly Padding[]): (number | undefined)[] {
    const found: (number | undefined)[] = asked.map(() => undefined);
    this.#eachText(asked, (text, windows) => {
      const { fileOffset: first, fileSize } = text;
      const distances = windows.map(({ bytes }) => distanceOf(text, bytes.segment));
      const reads = findReads(
        this.#code.elf.bytes.subarray(first, first + fileSize),
        windows.map(({ bytes: { start, end } }, nth) => {
          const distance = distances[nth] ?? 0;
          return { first: start + distance, end: end + distance };
        }),
        (at) => this.#functionAt(text, first + at),
      );
      windows.forEach(({ index }, nth) => {
        const read = (reads[nth] ?? Infinity) - (distances[nth] ?? 0);
        if (read < (found[index] ?? Infinity)) found[index] = read;
      });
    });
    return found;
  }

  /** Each text of the file with what is asked about that it can reach. */
  #eachText<Bytes extends Pick<AskedBytes, 'segment'>>(
    asked: readonly (Bytes | undefined)[],
    search: (
      text: ExecutableSegment,
      windows: readonly { readonly bytes: Bytes; readonly index: number }[],
    ) => void,
  ): void {
    for (const goals of this.#goals) {
      const windows = asked.flatMap((bytes, index) => {
        return bytes !== undefined && goals.includes(bytes.segment) ? [{ bytes, index }] : [];
      });
      if (windows.length === 0) continue;
      for (const text of this.#code.segments) search(text, windows);
    }
  }

  /** Who comes from one text of the file to bytes of it and of others. */
  #landings(text: ExecutableSegment, windows: readonly AskedBytes[]): Landing[][] {
    const { fileOffset: first, fileSize } = text;
    const distances = windows.map(({ segment }) => distanceOf(text, segment));
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

/** From a text's start to where the file's first byte would lie if all were mapped as a segment is. */
function distanceOf(text: ExecutableSegment, segment: ExecutableSegment): number {
  return Number(segment.address - text.address) - segment.fileOffset;
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
