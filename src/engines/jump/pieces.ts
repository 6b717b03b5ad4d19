/** The instructions near a place. */

import type { Flow } from '../../x64/decode.ts';
import type { Listing } from '../../x64/listing.ts';
import type { CodePlace, FileCode } from './file-code.ts';
import { JUMP_BYTES } from './patches.ts';

/** An instruction near a place. */
export interface Piece {
  /** From the place on. */
  readonly at: number;
  readonly length: number;
  readonly flow: Flow;
  /** Where a direct branch goes, from the place on. */
  readonly target: number | undefined;
}

/** Those of which the five bytes from a place on have a part; fewer where the code ends. */
export function piecesFrom(code: FileCode, place: CodePlace): Piece[] {
  const { offset, segment, bounds } = place;
  const pieces: Piece[] = [];
  const end = segment.fileOffset + segment.fileSize;
  const listing = code.listing(bounds, segment);
  const start = offset - bounds.start;
  let position = listing.positionOf(start);
  for (let at = 0; at < JUMP_BYTES && offset + at < end; position++) {
    const isListed = listing.starts[position] === start + at;
    const piece = isListed ? listed(listing, position, start) : decoded(code, place, at);
    pieces.push(piece);
    if (piece.flow === 'invalid') break;
    at += piece.length;
  }
  return pieces;
}

/** What its function does not show: what stands behind it, or is cut off by its end. */
function decoded(
  code: FileCode,
  { segment, offset, address: start }: CodePlace,
  at: number,
): Piece {
  const { flow, length, target } = code.decode(segment, offset + at);
  return { at, length, flow, target: target === undefined ? undefined : Number(target - start) };
}

/** An instruction of a function, counted from `start` in it. */
function listed(listing: Listing, position: number, start: number): Piece {
  const target = listing.targetAt(position);
  return {
    at: (listing.starts[position] ?? 0) - start,
    length: listing.lengthAt(position),
    flow: listing.flowAt(position),
    target: target === undefined ? undefined : target - start,
  };
}
