/** The first program of a command that is started. */

import type { Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import type { SessionEngine } from '../engine.ts';
import type { ProbeAddition } from '../probes/probing.ts';
import { describeTarget } from '../targets/selection.ts';
import type { StartWork } from './startup.ts';

/**
 * It gets each probe as soon as its file is mapped; unlike in later programs, what can't be added is thrown. What it does
 * not map then it may load later.
 */
export function firstProgram(
  pid: Pid,
  additions: readonly ProbeAddition[],
  engine: SessionEngine,
): StartWork {
  let waiting = additions;
  return {
    probe: () => {
      waiting = engine.add(waiting);
      return engine.announced?.lacksExecs(pid) === true || waiting.length > 0;
    },
    isProbed: true,
    settled: () => {
      engine.started(pid);
      for (const addition of waiting) engine.expect(addition);
    },
    foreign: () => {
      throw new TraplineError({
        code: 'unsupported',
        message: `${describeTarget(pid).executable} is a 32-bit program, which can't be probed`,
      });
    },
  };
}
