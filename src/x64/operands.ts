/** The operands of the assembler: memory, labels, conditions. Registers are names, see registers.ts. */

import type { Address } from '../base/brand.ts';
import type { Register64, Width } from './registers.ts';

/** A place in the code that an {@link Assembler} writes, bound once. Made by `Assembler.label()`. */
export class Label {
  /** Shown in errors. */
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** What {@link mem} takes: a memory operand in parts. */
export interface MemoryParts {
  readonly base?: Register64;
  /** Any register but rsp. */
  readonly index?: Register64;
  /** What `index` is multiplied by; 1 if absent. */
  readonly scale?: 1 | 2 | 4 | 8;
  /** Bytes added, from -2^31 to 2^31-1; 0 if absent. Without base and index: the address itself. */
  readonly displacement?: number;
  /** Adds the base of a segment: `fs` is the thread pointer of the psABI. */
  readonly segment?: 'fs' | 'gs';
  /**
   * Addresses this place relative to rip, within ±2 GB. It can't be mixed with base and index; the
   * displacement is added to it.
   */
  readonly target?: Address | Label;
  /** Bytes accessed. Needed only where no register operand tells: `mov [mem], 1`, `inc [mem]`. */
  readonly width?: Width;
}

/** A memory operand. Made by {@link mem}. */
export interface Memory extends MemoryParts {
  readonly kind: 'memory';
}

/**
 * A memory operand: `mem({ base: 'rcx', index: 'rdx', scale: 8, displacement: 16 })` is
 * `[rcx+rdx*8+16]`, `mem({ target: label })` is `[rip+label]`, and
 * `mem({ segment: 'fs', base: 'rdx', width: 4 })` is `dword ptr fs:[rdx]`.
 * @throws RangeError for what no instruction can express.
 */
export function mem(parts: MemoryParts): Memory {
  const { base, index, displacement = 0, target } = parts;
  if (index === 'rsp') throw new RangeError('rsp cannot be an index');
  if (index === undefined && parts.scale !== undefined) throw new RangeError('scale without index');
  if (target !== undefined && (base !== undefined || index !== undefined)) {
    throw new RangeError('a target is relative to rip and takes no base or index');
  }
  if ((displacement | 0) !== displacement) {
    throw new RangeError(`displacement out of range: ${displacement}`);
  }
  return { kind: 'memory', ...parts };
}

/**
 * The conditions of jcc, setcc and cmovcc, by the suffix that Intel's manual prefers. Each stands at
 * its encoding number (Intel SDM volume 2, B.1.4.7); its negation is the number with bit 0 flipped.
 */
export const CONDITIONS: readonly Condition[] = [
  'o',
  'no',
  'b',
  'ae',
  'e',
  'ne',
  'be',
  'a',
  's',
  'ns',
  'p',
  'np',
  'l',
  'ge',
  'le',
  'g',
];

/** The condition that holds where another does not. */
export function negated(condition: Condition): Condition {
  return CONDITIONS[CONDITIONS.indexOf(condition) ^ 1] ?? condition;
}

/** A condition on the flags; see {@link CONDITIONS}. */
export type Condition =
  | 'o'
  | 'no'
  | 'b'
  | 'ae'
  | 'e'
  | 'ne'
  | 'be'
  | 'a'
  | 's'
  | 'ns'
  | 'p'
  | 'np'
  | 'l'
  | 'ge'
  | 'le'
  | 'g';
