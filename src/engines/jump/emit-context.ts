/** What is known while the code of a program is written. */

import type { Address } from '../../base/brand.ts';
import type { RecordLayout, SegmentLayout } from '../../events/layout.ts';
import type { Fetch, Program } from '../../probe/program.ts';
import type { Assembler } from '../../x64/assembler.ts';
import type { Register64 } from '../../x64/registers.ts';
import type { StubFeatures } from './features.ts';
import type { SessionAddresses } from './runtime.ts';

/** Everything that the code of one consumer at one site depends on. */
export interface ProgramParts {
  readonly program: Program;
  readonly record: RecordLayout;
  readonly origin: Address;
  /** Where the site is: the value of `rip`. */
  readonly site: Address;
  /** Where it is in its file. */
  readonly fileOffset: bigint;
  readonly redZone: number;
  readonly session: SessionAddresses;
  readonly segment: SegmentLayout;
  /** The consumer's index in the segment. */
  readonly consumer: number;
  /** The next program, or the site's epilogue. */
  readonly next: Address;
  readonly features: StubFeatures;
}

/** What the parts of a program share while it is written. */
export interface EmitContext {
  readonly code: Assembler;
  readonly parts: ProgramParts;
  /** Whether the registers that programs save themselves are saved already. */
  readonly hasSavedMore: boolean;
  /** Loads a value that is no memory, as it was at the hit. Clobbers rdx. */
  load(destination: Register64, fetch: Fetch): void;
  /** Loads the processor's number into rax. */
  emitProcessor(): void;
}
