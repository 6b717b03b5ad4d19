/** What a session gives to each of its targets. */

import type { Pid } from '../../base/brand.ts';
import type { SegmentShape } from '../../events/layout.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { LivenessList } from '../../sys/robust.ts';
import type { MachineFeatures } from './features.ts';
import type { TargetFiles } from './target-files.ts';

/** What a session gives to each of its targets. */
export interface TargetOptions {
  readonly shape: SegmentShape;
  readonly files: TargetFiles;
  readonly liveness: LivenessList;
  /** Our thread id, as the liveness word has it. */
  readonly tracer: number;
  readonly features: MachineFeatures;
  /** Stops an address space; a command that starts up is held in another way than a running one. */
  readonly stop: (pid: Pid) => StoppedProcess;
}
